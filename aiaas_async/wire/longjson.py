"""A long JSON body, read where it stalls nobody: its arrays of numbers apart from the rest.

2.9 MB of numbers take 15 ms to become an array, and a thread would hold the interpreter for as
long. So a process of its own reads them (`service/readers.py`), and what goes back to the event
loop is arrays, which cost nothing to pass on, and the little that is left.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final

import msgspec
import numpy as np

from aiaas_async.errors import TooLargeError
from aiaas_async.messages import MAX_DIMENSIONS
from aiaas_async.wire.codecs import decode_json
from aiaas_async.wire.numerals import decode
from aiaas_async.wire.tensors import Array

LONG_BYTES: Final = 1 << 16  # 0.4 ms of JSON
MAX_REST: Final = 1 << 20  # bytes of the rest
MAX_ARRAYS: Final = 256  # the bound of a body's fields
REST: Final = "rest"
_LEAST: Final = 64  # numbers of a list worth an array of its own
_LEVELS: Final = MAX_DIMENSIONS + 1
_MAX_DEPTH: Final = 4  # of objects that hold lists: {"inputs": {"x": […]}} has two


class Apart(msgspec.Struct):
    """`rest` is the value with null wherever one of the arrays was; `places` are the keys that
    lead there, array by array, which are named "0", "1", …"""

    rest: Any
    places: list[list[str]]


def read_apart(body: bytes | memoryview) -> dict[str, Array]:
    """The arrays, and as one more, `REST`, the bytes of what is left.

    Raises `MalformedError`, and `TooLargeError` where more than `MAX_REST` is no numbers."""
    value = decode_json(bytes(body))
    places: list[list[str]] = []
    arrays: dict[str, Array] = {}
    for holder, key, path in islice(_lists(value, ()), MAX_ARRAYS):
        numbers = _numbers(holder[key])
        if numbers is not None:
            arrays[str(len(arrays))] = numbers
            places.append([*path, key])
            holder[key] = None
    rest = msgspec.json.encode(Apart(value, places))
    if len(rest) > MAX_REST:
        raise TooLargeError(
            f"the JSON body holds {len(rest)} bytes that are no lists of numbers, {MAX_REST} are "
            "allowed; send less at once, or use MessagePack"
        )
    arrays[REST] = np.frombuffer(rest, np.uint8)
    return arrays


def put_together(arrays: Mapping[str, Array]) -> Any:
    """The value as it was, but for numpy arrays in place of the lists."""
    found = msgspec.convert(decode(arrays[REST].tobytes()), Apart)
    value = found.rest
    for number, place in enumerate(found.places):
        holder = value
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = arrays[str(number)]
    return value


def _lists(value: Any, path: Sequence[str]) -> Iterator[tuple[dict[str, Any], str, Sequence[str]]]:
    """(object, key, the keys that lead to the object) of every list in an object."""
    if not isinstance(value, dict) or len(path) >= _MAX_DEPTH:
        return
    for key, held in value.items():
        if isinstance(held, list):
            yield value, key, path
        else:
            yield from _lists(held, (*path, key))


def _numbers(raw: list[Any]) -> Array | None:
    """`raw`, nested evenly, as int64 if all its numbers are whole, else float64; None for what is
    something else, or short: that is read, or refused, as the lists of short bodies are."""
    shape, flat = [len(raw)], raw
    while flat and type(flat[0]) is list:
        if len(shape) == _LEVELS or set(map(type, flat)) != {list}:
            return None
        lengths = set(map(len, flat))
        if len(lengths) != 1:
            return None
        shape.append(lengths.pop())
        flat = list(chain.from_iterable(flat))
    kinds = set(map(type, flat))
    if len(flat) < _LEAST or not kinds <= {int, float}:
        return None
    try:
        numbers = array("q" if kinds == {int} else "d", flat)
    except OverflowError:
        return None
    return np.frombuffer(numbers, np.int64 if kinds == {int} else np.float64).reshape(shape)
