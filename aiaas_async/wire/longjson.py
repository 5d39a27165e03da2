"""A long JSON body, read where it stalls nobody: its arrays of numbers apart from the rest.

2.9 MB of numbers take milliseconds to become an array, and a thread would hold the interpreter for
as long. So a process of its own reads them (`service/readers.py`), and what goes back to the event
loop is arrays, which cost nothing to pass on, and the little that is left. It writes the arrays of
long answers as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from aiaas_async.errors import TooLargeError
from aiaas_async.wire.codecs import decode_json, encode_json
from aiaas_async.wire.longlists import LongList, cut_out, find_lists, stood_in
from aiaas_async.wire.nonfinite import OUTPUT, Words, check_finite
from aiaas_async.wire.numerals import decode
from aiaas_async.wire.tensors import Array

LONG_BYTES: Final = 1 << 16  # 0.4 ms of JSON
MANY: Final = 1 << 14  # elements of an answer's arrays, which take 1 ms to write
MAX_REST: Final = 1 << 20  # bytes of the rest
REST: Final = "rest"
_MAX_DEPTH: Final = 4  # of objects that hold lists: {"inputs": {"x": […]}} has two
_ANYTHING: Final = msgspec.json.Decoder(msgspec.Raw)

Place = list[str]


class Apart(msgspec.Struct):
    """`rest` is the value with something short wherever one of the arrays was; `places` are the
    keys that lead there, array by array, which are named "0", "1", …"""

    rest: Any
    places: list[Place]


def read_apart(body: bytes | memoryview, *, tensors: bool = True) -> dict[str, Array]:
    """The arrays, none where no `tensors` are awaited; as one more, `REST`, the bytes of what is
    left.

    Raises `MalformedError`, and `TooLargeError` where more than `MAX_REST` is no numbers."""
    text = bytes(body)
    left, _, lists, places = _take_apart(text, find_lists(text) if tensors else [])
    rest = msgspec.json.encode(Apart(msgspec.Raw(left), places))
    arrays = {str(number): each.array for number, each in enumerate(lists)}
    return {**arrays, REST: np.frombuffer(rest, np.uint8)}


def put_together(arrays: Mapping[str, Array]) -> Any:
    """The value as it was, but for numpy arrays in place of the lists."""
    found = msgspec.convert(decode(arrays[REST].tobytes()), Apart)
    return _put_back(found.rest, found.places, [arrays[str(n)] for n in range(len(found.places))])


def read_with_arrays(body: bytes) -> Any:
    """The same of a body that is too short to be worth another process. Raises what `read_apart`
    does."""
    _, value, lists, places = _take_apart(body, find_lists(body))
    return _put_back(value, places, [each.array for each in lists])


def numbers_in(value: Any, place: str = "") -> Iterator[tuple[str, Array | np.generic]]:
    """The arrays and fractions that an answer's objects hold, in order, each with the keys that
    lead to it."""
    if isinstance(value, dict):
        for key, held in value.items():
            yield from numbers_in(held, f"{place}/{key}" if place else key)
    elif isinstance(value, np.ndarray | np.generic):
        yield place, value
    elif isinstance(value, float):
        yield place, np.float64(value)


def long_arrays(
    numbers: Mapping[str, Array | np.generic], words: Words = OUTPUT
) -> dict[str, Array]:
    """The arrays among `numbers`, by name, if writing them takes milliseconds.

    Raises `InputError`, in such `words`, for what JSON has no form of; of long arrays, writing
    them does."""
    size = 0
    for each in numbers.values():
        size += each.size
    long = {n: a for n, a in numbers.items() if isinstance(a, np.ndarray)} if size > MANY else {}
    for name, each in numbers.items():
        if name not in long:
            check_finite(each, name, words)
    return long


def write_arrays(arrays: Mapping[str, Array], words: Words = OUTPUT) -> dict[str, bytes]:
    """Each of `arrays`, by name, as JSON has it. Raises `InputError`, in such `words`, for what it
    has no form of."""
    for name, array in arrays.items():
        check_finite(array, name, words)
    return {name: encode_json(array) for name, array in arrays.items()}


def with_texts(value: Any, texts: Iterator[msgspec.Raw]) -> Any:
    """`value` with the next of `texts`, which are JSON, in place of each of its arrays."""
    if isinstance(value, dict):
        return {key: with_texts(held, texts) for key, held in value.items()}
    return next(texts) if isinstance(value, np.ndarray) else value


def _put_back(value: Any, places: Sequence[Place], arrays: Sequence[Array]) -> Any:
    for place, array in zip(places, arrays, strict=True):
        holder = value
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = array
    return value


def _take_apart(
    text: bytes, lists: list[LongList]
) -> tuple[bytes, Any, list[LongList], list[Place]]:
    """What is left of `text`, that decoded, and those of `lists` that have a place, with it."""
    left, value, places = _without(text, lists)
    if len(places) < len(lists):  # those that lists hold stay in them
        lists = [lists[number] for number in places]
        left, value, places = _without(text, lists)
    return left, value, lists, list(places.values())


def _without(text: bytes, lists: Sequence[LongList]) -> tuple[bytes, Any, dict[int, Place]]:
    """`text` without `lists`, that decoded, and the place of each that objects alone lead to."""
    left = cut_out(text, lists)
    if len(left) > MAX_REST:
        _check_json(left)
        raise TooLargeError(
            f"the JSON body holds {len(left)} bytes that are no lists of numbers, {MAX_REST} are "
            "allowed; send less at once, or use MessagePack"
        )
    value, places = decode_json(left), dict[int, Place]()
    if lists:
        _find(value, [], places)
    return left, value, places


def _check_json(text: bytes) -> None:
    """Raise `MalformedError` for what is no JSON, without an object for each value of it."""
    try:
        _ANYTHING.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decode_json(text)


def _find(value: Any, path: Place, places: dict[int, Place]) -> None:
    """Note the place of each stand-in."""
    number = stood_in(value)
    if number is not None:
        places[number] = path
    elif type(value) is dict and len(path) < _MAX_DEPTH:
        for key, held in value.items():
            _find(held, [*path, key], places)
