"""Forms: what the JSON of an infer request says beside its numbers, once all of it was found right.

A client sends the same JSON again and again before other numbers: then nothing in it need be
decoded and checked once more. That takes 5 us of the 13 that a request of 784 numbers is read in,
and ten times as much where its model has driven all else out of the caches.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from aiaas_async.wire.longlists import LEAST, stand_in
from aiaas_async.wire.sequences import Mark
from aiaas_async.wire.v2head import WORTH_CUTTING, Input
from aiaas_async.wire.v2parameters import Terms
from aiaas_async.wire.v2reply import Asked
from aiaas_async.wire.v2tensors import Array, read_binary, viewed_as

_LONGEST: Final = 1 << 9  # bytes of a JSON text that is kept
_MOST: Final = 16  # of a model
_NO_SEQUENCE: Final = Mark()


class Part:
    """An input: bytes behind the JSON, `size` of them, or None for a list in it."""

    __slots__ = ("_dtype", "_shape", "one", "size")

    def __init__(self, one: Input, size: int | None) -> None:
        self.one, self.size = one, size
        self._dtype = viewed_as(one.datatype)
        self._shape = tuple(one.shape)

    def read(self, body: bytes | memoryview, at: int, model: str) -> Array:
        """Its bytes at `at`, as `read_binary` reads them."""
        if self._dtype is not None:
            return np.ndarray(self._shape, self._dtype, body, at)
        part = memoryview(body)[at : at + (self.size or 0)]
        return read_binary(part, self.one.name, self.one.datatype, self.one.shape, model)


@dataclass(frozen=True, slots=True)
class Form:
    """`size`: bytes of tensors that follow the JSON; `lists` were cut out of it."""

    parts: tuple[Part, ...]
    outputs: tuple[Asked, ...]
    terms: Terms
    size: int
    lists: int

    @property
    def only(self) -> Input | None:
        """The only input, if it is float32."""
        one = self.parts[0].one
        return one if len(self.parts) == 1 and one.datatype == "FP32" else None


class Forms:
    """Those of one model by their JSON, in which stand-ins stand for long lists. Threads that read
    long bodies keep some while others look for theirs."""

    def __init__(self) -> None:
        self._known: dict[bytes, Form] = {}
        # By text: what is before its only list, and after it.
        self._around: dict[bytes, tuple[bytes, bytes, Form]] = {}
        self._keeping = threading.Lock()

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
        for before, after, form in list(self._around.values()):
            start, end = len(before), len(body) - len(after)
            fits = end - start >= LEAST and body.startswith(before) and body.endswith(after)
            if fits and _is_plain_list(body, start, end):
                return form, memoryview(body)[start:end]
        return None

    def keep(self, text: bytes, form: Form) -> None:
        """`form` was right. Not kept is what will hardly come again: numbers in the text itself, a
        step of a sequence; nor where a list was cut out that is no input's data."""
        if len(text) > _LONGEST or form.terms.mark != _NO_SEQUENCE or not _are_all_data(form):
            return
        with self._keeping:
            if len(self._known) >= _MOST:
                oldest = next(iter(self._known))
                del self._known[oldest]
                self._around.pop(oldest, None)
            self._known[text] = form
            if form.lists == len(form.parts) == 1:
                before, _, after = text.partition(stand_in(0))
                self._around[text] = before, after, form


def _is_plain_list(body: bytes, start: int, end: int) -> bool:
    """Whether a list without texts and objects may lie there: its end is then the last bracket."""
    bounded = body.startswith(b"[", start) and body.endswith(b"]", start, end)
    return bounded and all(body.find(each, start, end) < 0 for each in (b'"', b"{", b"}"))


def _are_all_data(form: Form) -> bool:
    """Whether the lists that were cut out are the data of the inputs without bytes, one each."""
    data = [part.one.data for part in form.parts if part.size is None]
    lists = [bytes(each) for each in data if each is not msgspec.UNSET]
    return sorted(lists) == sorted(map(stand_in, range(form.lists)))
