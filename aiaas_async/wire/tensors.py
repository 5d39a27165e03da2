"""One tensor: between numpy and the map `{dtype, shape, data}` of the wire contract.

The bytes are C order, little endian. Sizes are computed with Python's integers, which cannot
overflow, and compared with the bytes that came before numpy sees any of it.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiaas_async.errors import InputError
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.formats.texts import nul_at_end
from aiaas_async.messages import MAX_DIMENSIONS
from aiaas_async.names import clip

Array = NDArray[Any]

_NAMES: Final = {dtype: name for name, dtype in NUMPY.items()}
# What the msgpack-numpy package writes as "type" for these.
_FROM_MSGPACK_NUMPY: Final = {dtype.str: dtype for dtype in NUMPY.values()}
_LENGTH_BYTES: Final = 4
MAX_STRINGS: Final = 131_072  # of a tensor: each takes 0.3 us to read
# An array of texts is as wide as its longest: 10,000 short ones and a long one would be huge.
MAX_STRING_ARRAY_BYTES: Final = 64 << 20
_SLICE: Final = 1 << 12  # texts that become an array in one go, while no other thread runs: 1 ms
_SHORT: Final = 1 << 14  # bytes that are copied in less time than a view of them takes
_MSGPACK_NUMPY_KEYS: Final = ("nd", "type", "shape", "data")


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The contract's name of a numeric dtype."""
    return _NAMES[dtype]


def pack_tensor(array: Array) -> Any:
    """`array` as the contract's map, whose data may be a view of it; strings as nested lists."""
    if array.dtype.kind == "U":
        return _listed(array)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return {"dtype": _NAMES[array.dtype], "shape": array.shape, "data": _bytes_of(array)}


def _bytes_of(array: Array) -> bytes | memoryview:
    if array.nbytes <= _SHORT:
        return array.tobytes()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def is_tensor(value: Any) -> bool:
    """Whether `value` is a map that stands for a tensor."""
    known = type(value) is dict or isinstance(value, Mapping)
    return known and (_is_plain(value) or _is_msgpack_numpy(value))


def unpack_tensor(value: Mapping[str, Any], what: str) -> Array:
    """The array of a tensor map, as a view on its data. Raises `InputError` naming `what`."""
    if _is_plain(value):
        name = value["dtype"]
        if name == "string":
            return _unpack_strings(value, what)
        dtype = NUMPY.get(name) if isinstance(name, str) else None
    else:
        # The package writes its keys as binary. Its object kind (b"O") holds pickles; that has
        # no "type" of ours and is refused here.
        value = {key: _field(value, key) for key in _MSGPACK_NUMPY_KEYS}
        name = value["type"]
        dtype = _FROM_MSGPACK_NUMPY.get(name) if isinstance(name, str) else None
    if dtype is None:
        known = ", ".join((*NUMPY, "string"))
        raise InputError(f"{what}: dtype {clip(name)} is not known; known: {known}")
    shape = _shape(value["shape"], what)
    data = _bytes(value["data"], what)
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise InputError(
            f"{what}: {dtype.name} {list(shape)} takes {expected} bytes, data has {len(data)}"
        )
    return np.frombuffer(data, dtype).reshape(shape)


def _is_plain(value: Mapping[str, Any]) -> bool:
    return len(value) == 3 and "dtype" in value and "shape" in value and "data" in value


def _is_msgpack_numpy(value: Mapping[Any, Any]) -> bool:
    if len(value) < len(_MSGPACK_NUMPY_KEYS) or _field(value, "nd") is not True:
        return False
    return all(key in value or key.encode() in value for key in _MSGPACK_NUMPY_KEYS)


def _field(value: Mapping[Any, Any], key: str) -> Any:
    return value.get(key, value.get(key.encode()))


def _shape(raw: Any, what: str) -> tuple[int, ...]:
    fits = isinstance(raw, list | tuple) and len(raw) <= MAX_DIMENSIONS
    if not fits or not all(type(d) is int and 0 <= d < 2**31 for d in raw):
        raise InputError(
            f"{what}: shape {clip(raw)} must be a list of at most {MAX_DIMENSIONS} sizes of 0 to "
            "2147483647"
        )
    return tuple(raw)


def _bytes(raw: Any, what: str) -> bytes | memoryview:
    if isinstance(raw, bytes | memoryview):
        return raw
    if isinstance(raw, str):
        try:
            return base64.b64decode(raw, validate=True)
        except (binascii.Error, ValueError):
            raise InputError(f"{what}: data is not base64") from None
    raise InputError(f"{what}: data must be binary (in JSON base64 text), got {clip(raw)}")


def _unpack_strings(value: Mapping[str, Any], what: str) -> Array:
    """Strings: data holds, for each, a u32 length and UTF-8, as the Open Inference Protocol's
    BYTES tensors do."""
    shape, data = _shape(value["shape"], what), bytes(_bytes(value["data"], what))
    count = math.prod(shape)
    if count > MAX_STRINGS:
        raise InputError(f"{what}: {count} strings at once; at most {MAX_STRINGS} are allowed")
    if count * _LENGTH_BYTES > len(data):
        raise InputError(f"{what}: {count} strings do not fit into {len(data)} bytes of data")
    found, at = [], 0
    try:
        for _ in range(count):
            start = at + _LENGTH_BYTES
            at = start + int.from_bytes(data[at:start], "little")
            if at > len(data):
                raise InputError(f"{what}: a string reaches beyond the data")
            found.append(data[start:at].decode())
    except UnicodeDecodeError:
        raise InputError(f"{what}: a string is not UTF-8") from None
    if at != len(data):
        raise InputError(f"{what}: data has {len(data) - at} bytes after the last string")
    return text_array(found, what).reshape(shape)


def text_array(texts: list[str], what: str) -> Array:
    """An array of `texts`. Raises what `check_texts` does."""
    check_texts(texts, len(texts), what)
    if len(texts) <= _SLICE:
        return np.array(texts, dtype=np.str_)
    found = np.empty(len(texts), f"U{max(map(len, texts)) or 1}")
    for at in range(0, len(texts), _SLICE):
        found[at : at + _SLICE] = texts[at : at + _SLICE]
    return found


def _listed(array: Array) -> list[Any]:
    """Texts as nested lists."""
    if array.size <= _SLICE:
        few: list[Any] = array.tolist()
        return few
    if array[0].size > _SLICE:
        return [_listed(each) for each in array]
    rows = _SLICE // array[0].size
    parts = (array[at : at + rows].tolist() for at in range(0, len(array), rows))
    return list(chain.from_iterable(parts))


def check_texts(texts: Sequence[str], count: int, what: str) -> None:
    """Raise `InputError` where an array of `count` values, `texts` among them, would be too large,
    or would not keep them as they are. Before it is made: 60 KB of one long text and many short
    ones would take 640 MB."""
    longest = max(map(len, texts), default=0)
    if 4 * longest * count > MAX_STRING_ARRAY_BYTES:
        raise InputError(
            f"{what}: {count} strings of up to {longest} characters are too large together; send "
            "fewer at once"
        )
    if (fault := nul_at_end(texts)) is not None:
        raise InputError(f"{what}: {fault}")


def pack_strings(strings: list[str]) -> dict[str, Any]:
    """A tensor map of texts, the inverse of what `unpack_tensor` reads."""
    raw = [text.encode() for text in strings]
    data = b"".join(len(r).to_bytes(_LENGTH_BYTES, "little") + r for r in raw)
    return {"dtype": "string", "shape": [len(strings)], "data": data}
