"""Whether reading the inputs of a call takes milliseconds, told from their sizes: then a thread
does it, so that others are answered meanwhile. What takes some times as long is large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.messages import TensorSpec

LONG_BODY: Final = 4 << 20  # bytes that are laid end to end, which takes 2 ms
MADE_BYTES: Final = 4 << 20  # of an array in another dtype: 0.3 ms, or 2 in memory that is new
HALVES_BYTES: Final = 1 << 20  # the same where those are halves, or were: 2 ms
SEEN_BYTES: Final = 16 << 20  # of numbers that are looked at and passed on: 2 ms
LARGE: Final = 4  # times as long as what is read at once at most
MANY: Final = 1 << 14  # values of lists, and texts: 5 ms
_SHORT: Final = 4 * MANY  # bytes, whatever they become: of texts, four are before each
_HALF: Final = np.dtype(np.float16)
_DATA: Final = (bytes, memoryview, str)


def takes_long(raw: Mapping[str, Any], specs: Sequence[TensorSpec], times: int = 1) -> bool:
    """Whether reading `raw` takes long, or so many times as long; what has no dtype in `specs`
    keeps its own."""
    for spec in specs:
        value: Any = raw.get(spec.name)
        kind = type(value)
        if kind is np.ndarray:
            size = value.nbytes // times
            if size > _SHORT and _converts_long(size, value.dtype, spec):
                return True
        elif (kind is list and _values(value) > MANY * times) or (
            kind is dict and _is_long_tensor(value, spec, times)
        ):
            return True
    return False


def _values(held: list[Any]) -> int:
    """How many there are in nested lists, if those are even."""
    count = len(held)
    while held and type(held[0]) is list:
        held = held[0]
        count *= len(held)
    return count


def _is_long_tensor(value: Mapping[Any, Any], spec: TensorSpec, times: int) -> bool:
    """The same of a tensor's map, before it is known to be one."""
    data = value.get("data", value.get(b"data"))
    if not isinstance(data, _DATA) or len(data) <= _SHORT:
        return False
    size, name = len(data) // times, value.get("dtype")
    if name == "string":
        return size > _SHORT and spec.dtype in (None, name)
    # What msgpack-numpy wrote may be of any dtype: then each byte may be a number.
    return _converts_long(size, NUMPY.get(name) if isinstance(name, str) else None, spec)


def _converts_long(nbytes: int, given: np.dtype[Any] | None, spec: TensorSpec) -> bool:
    wanted = NUMPY.get(spec.dtype or "")
    if wanted is None:
        return False  # of texts that are an array already, or refused
    halves = given is None or _HALF in (given, wanted)
    if given == wanted:
        # Whole numbers are not looked at; halves one by one.
        return wanted.kind == "f" and nbytes > (HALVES_BYTES if halves else SEEN_BYTES)
    most = HALVES_BYTES if halves else MADE_BYTES
    return nbytes * wanted.itemsize > most * (1 if given is None else given.itemsize)
