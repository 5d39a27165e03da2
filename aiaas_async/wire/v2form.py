"""Forms: what the JSON of an infer request says beside its numbers, once all of it was found right.

A client sends the same JSON again and again before other numbers: then nothing in it need be
decoded and checked once more. That takes 8 us of the 13 that a request of 784 numbers is read in,
and ten times as much where its model has driven all else out of the caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from aiaas_async.wire.longlists import LEAST, stand_in
from aiaas_async.wire.v2head import WORTH_CUTTING, Input
from aiaas_async.wire.v2parameters import Terms
from aiaas_async.wire.v2reply import Asked
from aiaas_async.wire.v2tensors import Array, read_binary, viewed_as

_LONGEST: Final = 1 << 9  # bytes of a JSON text that is kept
_MOST: Final = 16  # of a model


class Part:
    """An input: bytes behind the JSON, `size` of them, or None for a list in it."""

    __slots__ = ("_dtype", "_shape", "one", "size")

    def __init__(self, one: Input, size: int | None) -> None:
        self.one, self.size = one, size
        self._dtype = viewed_as(one.datatype)
        self._shape = tuple(one.shape)

    def read(self, body: bytes | memoryview, at: int, size: int, model: str) -> Array:
        """Its `size` bytes at `at`, as `read_binary` reads them."""
        if self._dtype is not None:
            return np.ndarray(self._shape, self._dtype, body, at)
        part = memoryview(body)[at : at + size]
        return read_binary(part, self.one.name, self.one.datatype, self.one.shape, model)


@dataclass(frozen=True, slots=True)
class Form:
    """`size`: bytes of tensors that follow the JSON; `lists` were cut out of it."""

    parts: tuple[Part, ...]
    outputs: tuple[Asked, ...]
    terms: Terms
    size: int
    lists: int


class Forms:
    """Those of one model by their JSON, in which stand-ins stand for long lists."""

    def __init__(self) -> None:
        self._known: dict[bytes, Form] = {}
        self._around: list[tuple[bytes, bytes, Form]] = []  # what surrounds the only list

    def find(self, text: bytes, size: int, lists: int) -> Form | None:
        """The form of a request whose JSON is `text`, `lists` cut out, and which has `size` more
        bytes."""
        known = self._known.get(text)
        return known if known is not None and known.size == size and known.lists == lists else None

    def around(self, body: bytes) -> tuple[Form, memoryview] | None:
        """The form of a body with one long list, and that list as it would be cut out; without a
        look at all that is in it."""
        if len(body) < WORTH_CUTTING:
            return None
        for before, after, form in self._around:
            start, end = len(before), len(body) - len(after)
            fits = end - start >= LEAST and body.startswith(before) and body.endswith(after)
            if fits and _is_plain_list(body, start, end):
                return form, memoryview(body)[start:end]
        return None

    def keep(self, text: bytes, form: Form) -> None:
        """`form` was right. Numbers in the text itself will hardly come again."""
        if len(text) > _LONGEST or form.lists != _lists_in(form.parts):
            return
        if len(self._known) >= _MOST:
            self._known.clear()
            self._around.clear()
        self._known[text] = form
        if form.lists == 1:
            before, _, after = text.partition(stand_in(0))
            self._around.append((before, after, form))

    def __len__(self) -> int:
        return len(self._known)


def _is_plain_list(body: bytes, start: int, end: int) -> bool:
    """Whether a list without texts and objects may lie there: its end is then the last bracket."""
    bounded = body.startswith(b"[", start) and body.endswith(b"]", start, end)
    return bounded and all(body.find(each, start, end) < 0 for each in (b'"', b"{", b"}"))


def _lists_in(parts: Sequence[Part]) -> int:
    return sum(part.size is None for part in parts)
