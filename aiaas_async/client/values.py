"""Numpy in, numpy out: what a user passes becomes tensors, and tensors of a reply arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from aiaas_async.errors import InputError
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.formats.texts import nul_at_end
from aiaas_async.names import clip
from aiaas_async.wire.tensors import Array, is_tensor, pack_strings, pack_tensor
from aiaas_async.wire.tensors import unpack_tensor as unpack_one
from aiaas_async.wire.uneven import fault_in


def pack_all(values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Each value as a tensor. Raises `InputError` naming `what` and the key."""
    if not isinstance(values, Mapping) or not values:
        raise InputError(f"{what}: give at least one, as name → array, got {clip(values)}")
    packed = {}
    for name, value in values.items():
        place = f"{what} {clip(name)}"
        packed[name] = pack(as_array(value, place), place)
    return packed


def pack(array: Array, what: str) -> dict[str, Any]:
    """`array` as a tensor map. Raises `InputError` for texts that are not Unicode."""
    if array.dtype.kind == "U":
        return pack_texts(array.ravel().tolist(), what) | {"shape": list(array.shape)}
    packed: dict[str, Any] = pack_tensor(array)
    return packed


def pack_texts(texts: list[str], what: str) -> dict[str, Any]:
    """Texts as a tensor map; the server takes lists of them only in small numbers."""
    try:
        return pack_strings(texts)
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} holds a text that is not Unicode: {clip(error.object)}"
        ) from error
    except AttributeError:
        raise InputError(f"{what} must all be texts") from None


def _lists(value: Any, depth: int = 64) -> Any:
    """`value` with lists in place of the arrays and ranges in it, to the depth that arrays have."""
    if depth and isinstance(value, list | tuple | range):
        return [_lists(each, depth - 1) for each in value]
    return value.tolist() if hasattr(value, "tolist") else value


def as_array(value: Any, what: str) -> Array:
    """Anything array-like: arrays, nested lists, scalars, tensors of other packages.

    Floats stay as wide as they are: the server narrows them to what the model takes.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise _no_array(_lists(value), what) from error
    if array.dtype.kind in "OT" and all(isinstance(each, str) for each in array.flat):
        _check_ends(array, what)
        array = array.astype(np.str_)  # as pandas and numpy's StringDType hold texts
    if array.dtype.kind == "U" and isinstance(value, np.ndarray):
        return array
    if array.dtype.kind == "U" and _only_text(value):
        _check_ends(np.asarray(value, object), what)
        return array
    if array.dtype.name not in NUMPY:
        if not hasattr(value, "dtype"):
            raise _no_array(value, what)
        raise InputError(
            f"{what} has dtype {array.dtype.name}: give numbers or texts, not mixed; known: "
            f"{', '.join((*NUMPY, 'string'))}"
        )
    return array


def _check_ends(texts: Array, what: str) -> None:
    """Raise `InputError` for texts that an array would cut."""
    if (fault := nul_at_end(texts.ravel().tolist())) is not None:
        raise InputError(f"{what}: {fault}")


def _no_array(value: Any, what: str) -> InputError:
    fault = fault_in(value, what)
    return InputError(fault if value is None else f"{fault}; got {clip(value)}")


def _only_text(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_only_text, value))
    return not isinstance(value, int | float | complex)


def unpack(value: Any) -> Any:
    """`value` with every tensor map in it as an array of its own, writable."""
    if isinstance(value, dict):
        if is_tensor(value):
            return unpack_one(value, "the answer").copy()
        return {name: unpack(each) for name, each in value.items()}
    if isinstance(value, list):
        return [unpack(each) for each in value]
    return value
