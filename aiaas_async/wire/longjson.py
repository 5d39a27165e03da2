"""A long JSON body, read where it stalls nobody: its arrays of numbers apart from the rest.

2.9 MB of numbers take milliseconds to become an array, and a thread would hold the interpreter for
as long. So a process of its own reads them (`service/readers.py`), and what goes back to the event
loop is arrays, which cost nothing to pass on, and the little that is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from aiaas_async.errors import MalformedError, TooLargeError
from aiaas_async.wire.codecs import decode_json
from aiaas_async.wire.jsonnumbers import read_numbers
from aiaas_async.wire.numerals import decode
from aiaas_async.wire.tensors import Array

LONG_BYTES: Final = 1 << 16  # 0.4 ms of JSON
MAX_REST: Final = 1 << 20  # bytes of the rest
MAX_ARRAYS: Final = 256  # the bound of a body's fields
REST: Final = "rest"
_LEAST: Final = 256  # bytes of a list worth an array of its own
_MAX_DEPTH: Final = 4  # of objects that hold lists: {"inputs": {"x": […]}} has two
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NULL: Final = msgspec.Raw(b"null")

Places = list[list[str]]


class Apart(msgspec.Struct):
    """`rest` is the value with null wherever one of the arrays was; `places` are the keys that
    lead there, array by array, which are named "0", "1", …"""

    rest: Any
    places: Places


def read_apart(body: bytes | memoryview) -> dict[str, Array]:
    """The arrays, and as one more, `REST`, the bytes of what is left.

    Raises `MalformedError`, and `TooLargeError` where more than `MAX_REST` is no numbers."""
    text = bytes(body)
    if text.lstrip()[:1] != b"{":
        decode_json(text)  # what is no JSON is refused as such, however long
    places: Places = []
    arrays: dict[str, Array] = {}
    left = _without_numbers(text, (), places, arrays)
    if len(left) > MAX_REST:
        raise TooLargeError(
            f"the JSON body holds {len(left)} bytes that are no lists of numbers, {MAX_REST} are "
            "allowed; send less at once, or use MessagePack"
        )
    # Of two values under one key one is gone by now, and its colon with it.
    if text.count(b":") != left.count(b":"):
        raise MalformedError("the JSON body repeats a key: give each once")
    decode_json(left)
    rest = msgspec.json.encode(Apart(msgspec.Raw(left), places))
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


def _without_numbers(
    text: bytes, path: Sequence[str], places: Places, arrays: dict[str, Array]
) -> bytes:
    """`text` with null for every long list of numbers in its objects; those go to `arrays`."""
    if len(path) == _MAX_DEPTH or text.lstrip()[:1] != b"{":
        return text
    try:
        value = _OBJECT.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decode_json(text)
        raise
    for key, raw in value.items():
        held = bytes(raw)
        if len(held) < _LEAST or len(arrays) >= MAX_ARRAYS:
            continue
        numbers = read_numbers(held) if held[:1] == b"[" else None
        if numbers is None:
            value[key] = msgspec.Raw(_without_numbers(held, (*path, key), places, arrays))
        else:
            arrays[str(len(arrays))] = numbers
            places.append([*path, key])
            value[key] = _NULL
    return msgspec.json.encode(value)
