"""The inputs of a call: raw values become arrays that fit a signature, or an error that says why.

An array of exactly the signature's shape is one item; one more leading dimension is a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import msgspec
import numpy as np

from aiaas_async.errors import InputError, InternalError
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.messages import TensorSpec
from aiaas_async.names import clip
from aiaas_async.wire.lists import read_floats
from aiaas_async.wire.nonfinite import all_finite
from aiaas_async.wire.tensors import Array, check_texts, is_tensor, unpack_tensor
from aiaas_async.wire.uneven import fault_in
from aiaas_async.wire.unread import NONE_UNREAD, Unread

_FLOAT: Final = np.dtype(np.float32)


class Batch(msgspec.Struct, frozen=True, gc=False):
    """`arrays` lead with the batch dimension, `count` rows; `batched`: whether the caller's
    arrays had one. Inputs in `unread` are not read yet."""

    arrays: dict[str, Array]
    count: int
    batched: bool
    unread: Mapping[str, Unread] = NONE_UNREAD


def read_inputs(
    raw: Mapping[str, Any],
    specs: Sequence[TensorSpec],
    allow_nonfinite: bool = False,
    *,
    lazily: bool = False,
) -> Batch:
    """Arrays that fit `specs`, from tensors, nested lists or scalars; `lazily`, what is `Unread`
    stays so.

    Raises `InputError` naming the input, what was expected and what was given.
    """
    _check_names(raw, specs)
    arrays: dict[str, Array] = {}
    counts: dict[str, int | None] = {}
    unread: dict[str, Unread] = {}
    for spec in specs:
        value = raw[spec.name]
        if type(value) is Unread:
            if lazily and value.fits(spec) and not (value.raw and allow_nonfinite):
                unread[spec.name], counts[spec.name] = value, len(value)
                continue
            value = value.read()
        wanted = NUMPY.get(spec.dtype or "")
        if type(value) is np.ndarray and wanted is not None and value.dtype == wanted:
            array = value  # as another protocol has read it: nothing to convert
        else:
            array = _converted(value, spec)
        if not allow_nonfinite:
            _check_finite(array, spec)
        batched = _is_batch(array, spec)
        counts[spec.name] = len(array) if batched else None
        arrays[spec.name] = array if batched else array[None]
    found = set(counts.values())
    if len(found) != 1:
        items = {name: "one item" if n is None else f"{n} items" for name, n in counts.items()}
        raise InputError(f"the inputs differ in their number of items: {items}")
    count = found.pop()
    if count == 0:
        raise InputError("the batch is empty: give at least one item")
    return Batch(arrays, count or 1, count is not None, unread or NONE_UNREAD)


def _converted(value: Any, spec: TensorSpec) -> Array:
    try:
        given = read_array(value, f"input {spec.name!r}", spec.dtype)
    except InputError as error:
        raise InputError(f"{error.message}; expected: {_say(spec)}") from None
    return _convert(given, spec)


def check_batch(batch: Batch, specs: Sequence[TensorSpec]) -> None:
    """Raise `InputError` unless a batch read for another signature fits `specs` as well."""
    _check_names(batch.arrays, specs)
    for spec in specs:
        array = batch.arrays[spec.name]
        if _dtype_of(array) != spec.dtype or not _is_batch(array, spec):
            raise _mistyped(array, spec)


def _check_names(raw: Mapping[str, Any], specs: Sequence[TensorSpec]) -> None:
    if len(raw) == len(specs):
        for spec in specs:
            if spec.name not in raw:
                break
        else:
            return
    names = [spec.name for spec in specs]
    missing = [name for name in names if name not in raw]
    extra = [name for name in raw if name not in names]
    parts = [f"missing: {clip(missing)}"] if missing else []
    parts += [f"unknown: {clip(extra)}"] if extra else []
    raise InputError(
        f"inputs {', '.join(parts)}; expected: {', '.join(map(_say, specs))}",
        {"missing": missing, "unknown": [str(name)[:64] for name in extra[:20]]},
    )


def read_array(raw: Any, what: str, dtype: str | None = None) -> Array:
    """An array from a tensor map, nested lists or a scalar. Raises `InputError` naming `what`.

    Lists of whole numbers become int64, of other numbers float32 (float64 if `dtype` says so),
    of texts an array of strings.
    """
    if isinstance(raw, np.ndarray):  # a long list, or what another protocol has read
        return _as_float(raw, _FLOAT) if dtype is None and raw.dtype.kind == "f" else raw
    if is_tensor(raw):
        if dtype not in (None, "string") and raw.get("dtype") == "string":
            raise InputError(f"{what} holds texts")  # before they are read
        return unpack_tensor(raw, what)
    if isinstance(raw, Mapping):
        raise InputError(f"{what}: give nested lists or {{dtype, shape, data}}, got {clip(raw)}")
    if raw is None or isinstance(raw, memoryview):  # a long binary
        raise InputError(fault_in(raw, what))
    wanted = NUMPY.get(dtype or "")
    try:
        if wanted is not None and wanted.kind == "f" and type(raw) is list and not _is_text(raw):
            return read_floats(raw, wanted)
        _check_leaves(raw, what)
        array = np.array(raw)
    except (ValueError, TypeError, OverflowError):
        raise _no_array(raw, what) from None
    return _settle(array, raw, what)


def _check_leaves(raw: Any, what: str) -> None:
    """Raise `InputError` for texts of which numpy would make too large an array, or other texts;
    `TypeError` for binaries, whose views are numbers to it. What is uneven is left to it: it makes
    no array of that."""
    flat, kinds = [raw], {type(raw)}
    while kinds == {list}:
        flat = list(chain.from_iterable(flat))
        kinds = set(map(type, flat))
    if memoryview in kinds:
        raise TypeError("binaries")
    if str in kinds:
        check_texts([leaf for leaf in flat if type(leaf) is str], len(flat), what)


def _is_text(raw: Any) -> bool:
    """Whether the first leaf is a text: then all are, or it is refused."""
    while type(raw) is list and raw:
        raw = raw[0]
    return isinstance(raw, str)


def _settle(array: Array, raw: Any, what: str) -> Array:
    kind = array.dtype.kind
    if kind == "U" and not _only_text(raw):
        raise _no_array(raw, what)
    if kind == "f":
        return _as_float(array, _FLOAT)
    if kind not in "biuU":
        raise _no_array(raw, what)
    return array


def _no_array(raw: Any, what: str) -> InputError:
    return InputError(f"{fault_in(raw, what)}; got {clip(raw)}")


def _only_text(raw: Any) -> bool:
    if isinstance(raw, list | tuple):
        return all(map(_only_text, raw))
    return isinstance(raw, str)


def _convert(array: Array, spec: TensorSpec) -> Array:
    """`array` in the dtype of `spec`, where that loses nothing but precision."""
    if spec.dtype is None or spec.shape is None:
        raise InternalError(f"input {spec.name!r} has no type, though its version is committed")
    kind = array.dtype.kind
    if spec.dtype == "string":
        if kind != "U":
            raise _mistyped(array, spec)
        return array
    wanted = NUMPY[spec.dtype]
    if array.dtype == wanted:
        return array
    if wanted.kind == "f" and kind in "biuf":
        return _as_float(array, wanted)
    if wanted.kind in "iu" and kind in "iu":
        return _narrowed(array, wanted, spec)
    raise _mistyped(array, spec)


def _as_float(array: Array, wanted: np.dtype[Any]) -> Array:
    """What is too large becomes infinite, which is then refused with its place."""
    with np.errstate(over="ignore"):
        return array.astype(wanted)


def _narrowed(array: Array, wanted: np.dtype[Any], spec: TensorSpec) -> Array:
    limits = np.iinfo(wanted)
    if array.size:
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            raise InputError(
                f"input {spec.name!r} expects {_say(spec)}, got values from {low} to {high}; "
                f"{spec.dtype} holds {limits.min} to {limits.max}"
            )
    return array.astype(wanted)


def _check_finite(array: Array, spec: TensorSpec) -> None:
    if array.dtype.kind != "f" or all_finite(array):
        return
    at = np.argwhere(~np.isfinite(array))[0].tolist()
    found = array[tuple(at)]
    raise InputError(
        f"input {spec.name!r} holds {found} at {at}{_beyond(found)}; this version takes finite "
        "numbers only (register it with allow_nonfinite to change that)"
    )


def _beyond(found: np.floating[Any]) -> str:
    """What an infinite number may have been: reading it narrowed it already."""
    if np.isnan(found) or found.dtype.itemsize == 8:
        return ""
    return f", or a number beyond {found.dtype} ({np.finfo(found.dtype).max:.4g} at most)"


def _is_batch(array: Array, spec: TensorSpec) -> bool:
    shape = spec.shape or ()
    given = array.shape
    if given == shape:
        return False
    if given[1:] == shape:
        return True
    extra = len(given) - len(shape)
    if extra in (0, 1) and all(
        want in (-1, got) for want, got in zip(shape, given[extra:], strict=True)
    ):
        return extra == 1
    raise InputError(
        f"input {spec.name!r} expects {_say(spec)}, or a batch of such items; got "
        f"{_dtype_of(array)} {list(given)}",
        {"input": spec.name, "expected": list(shape), "given": list(given)},
    )


def _mistyped(array: Array, spec: TensorSpec) -> InputError:
    return InputError(
        f"input {spec.name!r} expects {_say(spec)}, got {_dtype_of(array)} {list(array.shape)}",
        {"input": spec.name, "expected": spec.dtype, "given": _dtype_of(array)},
    )


def _dtype_of(array: Array) -> str:
    return "string" if array.dtype.kind == "U" else array.dtype.name


def _say(spec: TensorSpec) -> str:
    return f"{spec.name}: {spec.dtype} {list(spec.shape or ())}"


def squeeze(arrays: Mapping[str, Array], *, batched: bool) -> Mapping[str, Any]:
    """Outputs as the caller counts: without the batch dimension for a single item."""
    return arrays if batched else {name: array[0] for name, array in arrays.items()}
