"""What is wrong with nested lists that make no array, in words, with the place.

Only looked for once an array could not be made. The lists are flattened level by level in C, as
they are read: the text of a refusal must not cost more than an answer.
"""

from __future__ import annotations

from collections.abc import Set
from itertools import chain, compress, count, repeat
from operator import ne
from typing import Any, Final

import numpy as np

from aiaas_async.messages import MAX_DIMENSIONS

_LEVELS: Final = MAX_DIMENSIONS + 1  # one for the batch
_LIST, _TEXT = "a list", "a text"
_NUMBER: Final = "a number"  # or of a type that is not in the table
_KINDS: Final[dict[type, str]] = {
    list: _LIST,
    tuple: _LIST,
    str: _TEXT,
    dict: "an object",
    type(None): "null",
    bytes: "binary data",
    memoryview: "binary data",
}
_NO_VALUE: Final = frozenset({"an object", "null", "binary data"})


def fault_in(raw: Any, what: str) -> str:
    """A sentence that begins with `what`, about the first fault from the outside inwards."""
    flat: list[Any] = [raw]
    shape: list[int] = []
    while flat:
        types = list(map(type, flat))
        first = _kind(types[0])
        if (at := _first(types, _NO_VALUE)) is not None:
            return f"{what} {'holds' if shape else 'is'} {_kind(types[at])}{_place(at, shape)}"
        if (at := _first(types, {_LIST, _NUMBER, _TEXT} - {first})) is not None:
            here, there = _place(0, shape), _place(at, shape)
            return f"{what} has {first}{here} and {_kind(types[at])}{there}"
        if first != _LIST:
            break
        sizes = list(map(len, flat))
        at = next(compress(count(), map(ne, sizes, repeat(sizes[0]))), None)
        if at is not None:
            here, there = f"the list{_place(0, shape)}", f"the one{_place(at, shape)}"
            return f"{what}: {here} has {_values(sizes[0])}, {there} has {sizes[at]}"
        if len(shape) == _LEVELS:
            return f"{what} has lists within lists more than {_LEVELS} deep"
        shape.append(sizes[0])
        flat = list(chain.from_iterable(flat))
    return f"{what} holds what is neither a number of 64 bits nor a text"


def _kind(of: type) -> str:
    return _KINDS.get(of, _NUMBER)


def _first(types: list[type], wanted: Set[str]) -> int | None:
    """Where the first of a wanted kind is. There are few types, and `index` runs in C."""
    found = [types.index(each) for each in set(types) if _kind(each) in wanted]
    return min(found, default=None)


def _place(index: int, shape: list[int]) -> str:
    if not shape:
        return ""
    return f" at {[int(i) for i in np.unravel_index(index, shape)]}"


def _values(number: int) -> str:
    return f"{number} value" if number == 1 else f"{number} values"
