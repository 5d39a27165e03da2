"""Bodies of items as a data set takes them: `{keys?, columns}`, lists or tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from aiaas_async.data.dataset import Dataset
from aiaas_async.data.keys import Keys
from aiaas_async.data.reports import PutReport
from aiaas_async.errors import InputError, InvalidError
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.names import clip
from aiaas_async.wire.arrays import read_array
from aiaas_async.wire.tensors import Array

_TOO_LONG: Final = 2**20  # bytes of a key, whatever larger number was given


def put_body(dataset: Dataset, body: Mapping[str, Any]) -> PutReport:
    """Store the items of a body. Raises `InvalidError`, `InputError`, `StorageError`."""
    unknown = body.keys() - {"keys", "columns"}
    if unknown:
        raise InvalidError(
            f"items come as {{keys?, columns}}; there is no field {clip(min(unknown))}"
        )
    columns = body.get("columns")
    if not isinstance(columns, Mapping) or not columns:
        raise InvalidError(f"'columns' must be an object of arrays, got {clip(columns)}")
    return dataset.put(_read_keys(body.get("keys")), _read_columns(dataset, columns))


def _read_columns(dataset: Dataset, columns: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays of a body's columns, lists in the column's own dtype. Long lists of JSON have come as
    arrays; who sends tensors sends them as maps, and they keep their dtype."""
    arrays = {}
    for name, raw in columns.items():
        declared = dataset.spec.columns.get(name)
        array = read_array(raw, f"column {clip(name)}", declared.dtype if declared else None)
        given_as_lists = isinstance(raw, list | np.ndarray)
        if declared is not None and given_as_lists:
            array = _fitted(array, NUMPY[declared.dtype], name)
        arrays[name] = array
    return arrays


def _fitted(array: Array, dtype: np.dtype[Any], name: str) -> Array:
    """Numbers that came without a type, in the column's, if that keeps their values."""
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "biuf":
        raise InputError(f"column {clip(name)} takes {dtype.name}, got texts")
    with np.errstate(invalid="ignore", over="ignore"):
        fitted = array.astype(dtype)
    # From 2**53 on floats are too far apart to tell whole numbers.
    vague = array.dtype.kind == "f" and dtype.kind != "f" and np.abs(array).max(initial=0) >= 2**53
    if dtype.kind != "f" and (vague or not np.array_equal(fitted, array)):
        raise InputError(f"column {clip(name)} takes {dtype.name}; some values do not fit it")
    return fitted


def _read_keys(raw: Any) -> Sequence[str] | Keys | None:
    """Keys as a list of texts, as a tensor of strings, or packed as `{lengths, text}`."""
    if raw is None or isinstance(raw, list):
        return raw
    if isinstance(raw, Mapping) and raw.keys() == {"lengths", "text"}:
        lengths = read_array(raw["lengths"], "the keys' lengths")
        if (
            lengths.dtype.kind != "u"
            or lengths.ndim != 1
            or not isinstance(raw["text"], bytes | memoryview)
        ):
            raise InvalidError(
                "packed keys are 'lengths', unsigned numbers of bytes, and 'text', all keys in "
                "UTF-8 end to end, as binary"
            )
        return Keys(bytes(raw["text"]), np.minimum(lengths, np.uint32(_TOO_LONG)))
    array = read_array(raw, "keys")
    if array.dtype.kind != "U" or array.ndim != 1:
        raise InvalidError("'keys' must be a list of texts, one for each item")
    keys: list[str] = array.tolist()
    return keys
