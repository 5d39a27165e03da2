"""Tensors that a worker reads, not the event loop: their numbers are still JSON, or bytes that lie
in the pieces in which they came.

To the loop 784 numbers are 16 KB that it passes on; reading them would be a fifth of what their
request costs it. The 600 KB of an image go from where they were received straight into the
worker's memory: to join them first, and to look for NaN, would be a fifth. What a worker cannot
read as the numbers that were announced is read again the slow way, where each fault has its words.
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
from aiaas_async.wire.nonfinite import all_finite
from aiaas_async.wire.tensors import Array

_DTYPE: Final = "float32"
_LEAST_BYTES: Final = 2  # of a number and what divides it from the next


class UnreadError(Exception):
    """A worker could not read what was left to it."""


class Unread(msgspec.Struct, frozen=True, gc=False):
    """A float32 tensor [*shape], whose numbers are `parts` end to end: JSON, or, `raw`, as they lie
    in an array. `read` gives it as one, or raises what is wrong with it."""

    parts: tuple[memoryview, ...]
    shape: tuple[int, ...]
    read: Callable[[], Array]
    raw: bool = False

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return sum(map(len, self.parts))

    @property
    def as_bytes(self) -> list[Array]:
        """The parts as uint8 [bytes]."""
        return [np.frombuffer(part, np.uint8) for part in self.parts]

    def fits(self, spec: TensorSpec) -> bool:
        """Whether it is a batch for `spec`, and no larger than its bytes can be."""
        alike = spec.dtype == _DTYPE and self.shape[1:] == spec.shape
        return alike and 0 < math.prod(self.shape) * _LEAST_BYTES <= self.nbytes


NONE_UNREAD: Final[Mapping[str, Unread]] = MappingProxyType({})


def read_raw(
    body: Array, item: tuple[int, ...], sizes: Sequence[tuple[int, int]]
) -> tuple[Array, list[int]]:
    """What `read_texts` gives, of raw tensors: a view on `body`, unless some are not finite."""
    found = body.view(np.float32).reshape(-1, *item)
    return (found, []) if all_finite(found) else _without_nonfinite(found.copy(), sizes)


def read_texts(
    body: Array, item: tuple[int, ...], sizes: Sequence[tuple[int, int]]
) -> tuple[Array, list[int]]:
    """Texts that lie end to end in `body` as float32 [rows, *item], and which of them hold other
    numbers than their rows need, or some that are not finite: the rows of those are zeros. `sizes`
    are rows and bytes of each text."""
    found = np.zeros((sum(rows for rows, _ in sizes), *item), np.float32)
    row = at = 0
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        for rows, size in sizes:
            _fill(found[row : row + rows], body[at : at + size])
            row, at = row + rows, at + size
    return (found, []) if all_finite(found) else _without_nonfinite(found, sizes)


def _fill(part: Array, text: Array) -> None:
    """Put the numbers of `text` into `part`, or NaN if they are not as many."""
    numbers = read_numbers(text.data)
    fit = numbers is not None and numbers.size == part.size
    part[...] = numbers.reshape(part.shape) if numbers is not None and fit else np.nan


def _without_nonfinite(found: Array, sizes: Sequence[tuple[int, int]]) -> tuple[Array, list[int]]:
    """`found` with zeros in the rows of those that hold NaN or infinity, and which those are."""
    unread, row = [], 0
    for number, (rows, _) in enumerate(sizes):
        part = found[row : row + rows]
        if not all_finite(part):
            part[...] = 0
            unread.append(number)
        row += rows
    return found, unread
