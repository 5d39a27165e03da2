"""What a data set holds: named columns of one dtype and one shape each, and who may be a key.

Items are fixed-size records, so that the n-th one is found by multiplication.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from aiaas_async.errors import InputError, InvalidError, TooLargeError
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.messages import DTYPES, MAX_DIMENSIONS, MAX_TENSORS
from aiaas_async.misfit import misfit
from aiaas_async.names import check_name, clip

MAX_KEY_BYTES: Final = 256
MAX_ITEM_BYTES: Final = 16 * 2**20
MAX_REPLICATION: Final = 8

Columns = Mapping[str, NDArray[Any]]


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column: a numeric dtype, and the shape of one item's value."""

    dtype: str
    shape: tuple[int, ...] = ()

    @property
    def numpy(self) -> np.dtype[Any]:
        return NUMPY[self.dtype]

    @property
    def size(self) -> int:
        """Numbers of one item's value."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of one item's value."""
        return self.size * self.numpy.itemsize


class DatasetSpec(msgspec.Struct, frozen=True):
    """A declared data set. `id` is made by the server and names its folder; `columns` are in
    the order of their names; `created_at` is in seconds since 1970."""

    name: str
    id: str
    columns: dict[str, Column]
    replication: int
    created_at: float

    @property
    def item_bytes(self) -> int:
        return sum(column.nbytes for column in self.columns.values())

    @property
    def item_values(self) -> int:
        return sum(column.size for column in self.columns.values())


class Declaration(msgspec.Struct, forbid_unknown_fields=True):
    """A data set as it is asked for."""

    columns: dict[str, Column]
    replication: int = 1


def parse_spec(name: str, dataset_id: str, body: Mapping[str, Any], now: float) -> DatasetSpec:
    """A spec from a decoded body `{columns: {name: {dtype, shape}}, replication?}`.

    Raises `InvalidError` or `InvalidNameError` naming what is wrong, `TooLargeError` when one
    item would be over 16 MiB.
    """
    check_name(name, "data set name")
    try:
        declared = msgspec.convert(body, Declaration, strict=True)
    except msgspec.ValidationError as error:
        said = misfit(error, body, Declaration)
        raise InvalidError(
            f"data set: {said}; write {{columns: {{image: {{dtype: 'uint8', shape: [8, 8]}}}}}}"
        ) from error
    columns = {key: _checked(key, declared.columns[key]) for key in sorted(declared.columns)}
    if not 1 <= len(columns) <= MAX_TENSORS:
        raise InvalidError(f"data set: 1 to {MAX_TENSORS} columns expected, got {len(columns)}")
    if not 1 <= declared.replication <= MAX_REPLICATION:
        raise InvalidError(
            f"data set: replication must be 1 to {MAX_REPLICATION}, got {declared.replication}"
        )
    spec = DatasetSpec(name, dataset_id, columns, declared.replication, now)
    if spec.item_bytes > MAX_ITEM_BYTES:
        raise TooLargeError(
            f"data set: one item has {spec.item_bytes} bytes, at most {MAX_ITEM_BYTES} are allowed"
        )
    return spec


def _checked(name: str, column: Column) -> Column:
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise InvalidError(f"data set: {clip(name)} is not a column name (1 to 64 printable)")
    if column.dtype == "string":
        raise InvalidError(
            f"column {clip(name)}: 'string' values have no fixed size; encode them as numbers "
            "(token ids as int32, text as padded uint8), or use the text as the item's key"
        )
    if column.dtype not in NUMPY:
        known = ", ".join(dtype for dtype in DTYPES if dtype in NUMPY)
        raise InvalidError(f"column {clip(name)}: dtype {clip(column.dtype)}; known: {known}")
    if len(column.shape) > MAX_DIMENSIONS or any(not 1 <= d < 2**31 for d in column.shape):
        raise InvalidError(
            f"column {clip(name)}: shape {clip(list(column.shape))}; at most {MAX_DIMENSIONS} "
            "dimensions of 1 or more (items of a data set have a fixed size)"
        )
    return column


def checked_columns(spec: DatasetSpec, given: Columns) -> dict[str, NDArray[Any]]:
    """`given` [n, *shape] as C-contiguous little-endian arrays, in the order of the spec.

    Raises `InputError` for a missing or extra column, another dtype or shape, or columns that
    differ in length.
    """
    if set(given) != set(spec.columns):
        missing, extra = set(spec.columns) - set(given), set(given) - set(spec.columns)
        raise InputError(
            f"data set {spec.name}: columns missing: {sorted(missing)}, "
            f"unknown: {clip(sorted(map(str, extra)))}"
        )
    arrays = {name: _laid_out(name, spec.columns[name], given[name]) for name in spec.columns}
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"data set {spec.name}: columns differ in length: {counts}")
    return arrays


def _laid_out(name: str, column: Column, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.newbyteorder("=") != column.numpy.newbyteorder("="):
        raise InputError(
            f"column {name}: dtype {array.dtype} given, {column.dtype} declared: convert first"
        )
    if array.ndim != 1 + len(column.shape) or array.shape[1:] != column.shape:
        raise InputError(
            f"column {name}: shape {list(array.shape)} given, "
            f"[n, {', '.join(map(str, column.shape))}] expected".replace(", ]", "]")
        )
    return np.ascontiguousarray(array, column.numpy)


def encode_key(key: str) -> bytes:
    """`key` in UTF-8. Raises `InvalidError` unless it is text of 1 to 256 bytes."""
    try:
        raw = key.encode()
    except (AttributeError, UnicodeEncodeError) as error:
        raise InvalidError(f"key {clip(key)} is not text that UTF-8 can hold") from error
    if not 1 <= len(raw) <= MAX_KEY_BYTES:
        raise InvalidError(f"key {clip(key)} has {len(raw)} bytes; 1 to {MAX_KEY_BYTES} allowed")
    return raw
