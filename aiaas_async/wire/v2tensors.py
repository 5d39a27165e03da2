"""One tensor of the Open Inference Protocol: its datatype's name, its bytes, its JSON.

Little endian, row-major. Bytes that came become views; sizes are compared in Python's integers
before numpy sees any of them.
"""

from __future__ import annotations

import math
from array import array as numbers
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from aiaas_async.errors import InputError
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.messages import MAX_DIMENSIONS, TensorSpec
from aiaas_async.names import clip
from aiaas_async.wire import lists
from aiaas_async.wire.jsonnumbers import read_floats
from aiaas_async.wire.nonfinite import check_finite
from aiaas_async.wire.numerals import decode
from aiaas_async.wire.tensors import text_array

Array = NDArray[Any]

BF16: Final = "BF16"
BYTES: Final = "BYTES"
DATATYPES: Final = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "string": BYTES,
}
_DTYPES: Final = {DATATYPES[name]: dtype for name, dtype in NUMPY.items()}
_FLOATS: Final = ("FP32", "FP64")
_NAMES: Final = {dtype: name for name, dtype in _DTYPES.items()}
_BFLOAT16: Final = np.dtype("<u2")  # the upper half of a float32
_CODES: Final = {"i": "bhiq", "u": "BHIQ"}  # of `array.array`, by size
_LENGTH_BYTES: Final = 4
_UNREADABLE: Final = (ValueError, TypeError, OverflowError, RecursionError, msgspec.DecodeError)
_SHORT: Final = 1 << 14  # bytes that are copied in less time than a view of them takes
_LEVELS: Final = MAX_DIMENSIONS + 1


def check_shape(shape: Sequence[int]) -> None:
    """Raise `InputError` for a shape that no tensor can have."""
    if len(shape) > _LEVELS or not all(0 <= size < 2**31 for size in shape):
        raise InputError(
            f"Unable to parse 'shape': {clip(list(shape))} must be at most {_LEVELS} sizes of 0 "
            "to 2147483647"
        )
    if math.prod(size or 1 for size in shape) >= 2**59:  # times 8 bytes, in 63 bits
        raise InputError(f"Unable to parse 'shape': {clip(list(shape))} has too many elements")


def viewed_as(datatype: str) -> np.dtype[Any] | None:
    """The dtype of a tensor whose bytes `read_binary` takes as they are; None for other kinds."""
    dtype = _DTYPES.get(datatype)
    return dtype if dtype is not None and dtype.kind in "iuf" else None


def read_binary(
    data: memoryview, name: str, datatype: str, shape: Sequence[int], model: str
) -> Array:
    """A view on `data`. BF16 becomes float32, BYTES strings."""
    if datatype == BYTES:
        return _strings(data, name, shape)
    dtype = _BFLOAT16 if datatype == BF16 else _DTYPES[datatype]
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise InputError(
            f"input byte size mismatch for input '{name}' for model '{model}'. Expected "
            f"{expected}, got {len(data)}"
        )
    if dtype.kind == "b":
        return _booleans(data).reshape(shape)
    found = np.frombuffer(data, dtype).reshape(shape)
    if datatype == BF16:
        wide = found.astype(np.uint32)
        return np.left_shift(wide, 16, out=wide).view(np.float32)
    return found


def _booleans(data: memoryview) -> Array:
    """Any byte but 0 is true; numpy must not be shown one above 1."""
    raw = np.frombuffer(data, np.uint8)
    return raw.view(np.bool_) if raw.max(initial=0) <= 1 else raw != 0


def _strings(data: memoryview, name: str, shape: Sequence[int]) -> Array:
    expected, raw = math.prod(shape), bytes(data)
    found: list[str] = []
    at = 0
    while at < len(raw):
        start = at + _LENGTH_BYTES
        if len(found) == expected:
            raise InputError(
                f"unexpected number of string elements {len(found) + 1} for inference input "
                f"'{name}', expecting {expected}"
            )
        if start > len(raw):
            raise InputError(
                f"incomplete string length indicator for inference input '{name}', expecting "
                f"{_LENGTH_BYTES} bytes but only {len(raw) - at} bytes available"
            )
        at = start + int.from_bytes(raw[at:start], "little")
        if at > len(raw):
            raise InputError(
                f"incomplete string data for inference input '{name}', expecting string of length "
                f"{at - start} but only {len(raw) - start} bytes available"
            )
        found.append(_text(raw[start:at], name))
    if len(found) != expected:
        raise InputError(
            f"expected {expected} string elements for inference input '{name}', got {len(found)}"
        )
    return _texts(found, name).reshape(shape)


def _text(raw: bytes, name: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InputError(f"a string of inference input '{name}' is not UTF-8") from None


def _texts(found: list[str], name: str) -> Array:
    return text_array(found, f"inference input '{name}'")


def raw_shape(spec: TensorSpec, datatype: str, nbytes: int, model: str) -> list[int]:
    """The shape of an input that is a whole body: one item, at most one size left open."""
    shape = [1, *(spec.shape or ())]
    if datatype == BYTES:
        if any(size not in (-1, 1) for size in shape):
            raise InputError(
                f"For BYTES datatype raw input '{spec.name}', the model must have input shape [1]"
            )
        return [1] * len(shape)
    if shape.count(-1) > 1:
        raise InputError(
            f"The shape of the raw input '{spec.name}' can not be deduced because there are more "
            "than one variable-sized dimension"
        )
    size = math.prod(d for d in shape if d != -1) * _DTYPES[datatype].itemsize
    if -1 in shape and (not size or nbytes % size):
        raise InputError(
            f"The shape of the raw input '{spec.name}' for model '{model}' can not be deduced: "
            f"{nbytes} bytes are no multiple of {size}"
        )
    return [nbytes // size if d == -1 else d for d in shape]


def read_json(raw: bytes, name: str, datatype: str, shape: Sequence[int]) -> Array:
    """A tensor from JSON, nested or flat."""
    if datatype in _FLOATS and (found := read_floats(raw)) is not None:
        return _tensor(found, datatype, shape)
    try:
        values = decode(raw)
    except _UNREADABLE as error:
        raise _unparsed(name, error) from None
    return from_values(values, name, datatype, shape)


def read_list(numbers: Array, datatype: str, shape: Sequence[int]) -> Array | None:
    """A tensor from the numbers of a list, float64 or int64; None where only the list's text can
    tell which they are, or what is wrong with them."""
    return _tensor(numbers, datatype, shape) if _hold(datatype, numbers) else None


def _hold(datatype: str, numbers: Array) -> bool:
    if datatype in _FLOATS:
        return True
    dtype = _DTYPES.get(datatype)
    if dtype is None or dtype.kind not in "iu" or numbers.dtype.kind != "i":
        return False
    limits = np.iinfo(dtype)
    return int(numbers.min()) >= limits.min and int(numbers.max()) <= limits.max


def _tensor(numbers: Array, datatype: str, shape: Sequence[int]) -> Array:
    if numbers.size != math.prod(shape):
        raise _misshapen()
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        return numbers.astype(_DTYPES[datatype]).reshape(shape)


def from_values(values: Any, name: str, datatype: str, shape: Sequence[int]) -> Array:
    """A tensor from decoded JSON."""
    if datatype in ("FP16", BF16):
        raise InputError(
            f"receiving {datatype} data via JSON is not supported. Please use the binary data "
            f"format for input {name}"
        )
    try:
        flat = _flat(values)
        found = _texts(_typed(flat, str), name) if datatype == BYTES else _numbers(flat, datatype)
    except _UNREADABLE as error:
        raise _unparsed(name, error) from None
    if len(found) != math.prod(shape):
        raise _misshapen()
    return found.reshape(shape)


def _misshapen() -> InputError:
    return InputError("Unable to parse 'data': Shape does not match true shape of 'data' field")


def _unparsed(name: str, error: Exception) -> InputError:
    return InputError(f"Unable to parse 'data': input '{name}': {_reason(error)}")


def _flat(raw: Any) -> list[Any]:
    """The leaves of nested lists. Raises `ValueError`, `TypeError`."""
    if type(raw) is not list:
        raise TypeError("attempt to access JSON non-array as array")
    flat: list[Any] = raw
    for _ in range(_LEVELS):
        if not flat or type(flat[0]) is not list:
            return flat
        if set(map(type, flat)) != {list}:
            raise ValueError("lists and values are mixed")
        flat = list(chain.from_iterable(flat))
    raise ValueError(f"more than {_LEVELS} levels of lists")


def _numbers(flat: list[Any], datatype: str) -> Array:
    dtype = _DTYPES[datatype]
    if dtype.kind == "f":
        return lists.read_floats(flat, dtype)
    if dtype.kind == "b":
        return np.array(_typed(flat, bool), dtype)
    code = _CODES[dtype.kind][dtype.itemsize.bit_length() - 1]
    return np.frombuffer(numbers(code, flat), dtype)


def _typed(flat: list[Any], kind: type) -> list[Any]:
    if set(map(type, flat)) - {kind}:
        raise TypeError(f"attempt to access JSON non-{_KINDS[kind]} as {_KINDS[kind]}")
    return flat


_KINDS: Final = {bool: "boolean", str: "string"}


def _reason(error: Exception) -> str:
    return clip(str(error), 200).strip("'\"")


def datatype_of(array: Array) -> str:
    """The protocol's name for the dtype of `array`."""
    known = _NAMES.get(array.dtype)
    if known is not None:
        return known
    return BYTES if array.dtype.kind == "U" else _NAMES[array.dtype.newbyteorder("<")]


def to_json(array: Array, name: str) -> list[Any]:
    """The elements of an output, flat. Raises `InputError` for what has no JSON form."""
    if array.dtype == np.float16:
        raise InputError(
            "sending FP16 data via JSON is not supported. Please use the binary data format for "
            "output"
        )
    check_finite(array, name)
    flat: list[Any] = array.ravel().tolist()
    return flat


def pack(array: Array) -> bytes | memoryview:
    """The bytes of a tensor, without copying where they lie as they are sent."""
    if array.dtype.kind == "U":
        raw = [text.encode() for text in array.ravel().tolist()]
        return b"".join(
            part for one in raw for part in (len(one).to_bytes(_LENGTH_BYTES, "little"), one)
        )
    if array.size == 0:
        return b""
    if array.nbytes <= _SHORT and array.dtype in _NAMES:
        return array.tobytes()
    if array.dtype not in _NAMES or not array.flags.c_contiguous:
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return array.reshape(-1).view(np.uint8).data


def classified(array: Array, classes: int, name: str) -> Array:
    """Of each item the highest `classes` values, as texts of value:index, highest first."""
    if array.dtype.kind not in "iuf":
        raise InputError(
            f"class result not available for output '{name}' due to unsupported type "
            f"'{datatype_of(array)}'"
        )
    flat = array.reshape(len(array), -1)
    size = flat.shape[1]
    count = min(classes, size)
    # Ascending from the back, so that of equal values the first comes first.
    order = (size - 1 - np.argsort(flat[:, ::-1], axis=1, kind="stable"))[:, ::-1][:, :count]
    best = np.take_along_axis(flat, order, axis=1)
    shown = "{:f}:{}" if array.dtype.kind == "f" else "{}:{}"
    texts = [
        [shown.format(value, index) for value, index in zip(*row, strict=True)]
        for row in zip(best.tolist(), order.tolist(), strict=True)
    ]
    return np.array(texts, dtype=np.str_).reshape(len(array), count)
