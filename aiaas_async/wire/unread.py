"""Tensors whose numbers are still JSON: a worker reads them, not the event loop.

To the loop 784 numbers are 16 KB that it passes on; reading them would be a fifth of what their
request costs it. What a worker cannot read as the numbers that were announced is read again the
slow way, where each fault has its words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec
import numpy as np

from aiaas_async.messages import TensorSpec
from aiaas_async.wire.jsonnumbers import read_numbers
from aiaas_async.wire.tensors import Array

_DTYPE: Final = "float32"
_LEAST_BYTES: Final = 2  # of a number and what divides it from the next


class UnreadError(Exception):
    """A worker could not read what was left to it."""


class Unread(msgspec.Struct, frozen=True, gc=False):
    """A float32 tensor [*shape], the JSON of whose numbers is `text`. `read` gives it as an array,
    or raises what is wrong with it."""

    text: memoryview
    shape: tuple[int, ...]
    read: Callable[[], Array]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return len(self.text)

    @property
    def as_bytes(self) -> Array:
        """The text as uint8 [nbytes]."""
        return np.frombuffer(self.text, np.uint8)

    def fits(self, spec: TensorSpec) -> bool:
        """Whether it is a batch for `spec`, and no larger than its text can be."""
        alike = spec.dtype == _DTYPE and self.shape[1:] == spec.shape
        return alike and 0 < math.prod(self.shape) * _LEAST_BYTES <= self.nbytes


NONE_UNREAD: Final[Mapping[str, Unread]] = MappingProxyType({})


def read_texts(
    body: Array, item: tuple[int, ...], sizes: Sequence[tuple[int, int]]
) -> tuple[Array, list[int]]:
    """Texts that lie end to end in `body` as float32 [rows, *item], and which of them hold other
    numbers than their rows need, or none that are finite: the rows of those are zeros. `sizes` are
    rows and bytes of each text."""
    found = np.zeros((sum(rows for rows, _ in sizes), *item), np.float32)
    unread, row, at = [], 0, 0
    for number, (rows, size) in enumerate(sizes):
        part = found[row : row + rows]
        if not _fill(part, body[at : at + size]):
            part[...] = 0
            unread.append(number)
        row, at = row + rows, at + size
    return found, unread


def _fill(part: Array, text: Array) -> bool:
    """Whether `text` holds the numbers of `part`, which are in it then."""
    numbers = read_numbers(text.data)
    if numbers is None or numbers.size != part.size:
        return False
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        part[...] = numbers.reshape(part.shape)
    return bool(np.isfinite(part).all())
