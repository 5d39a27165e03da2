"""The signature as a contract with code that is not ours: what goes in fits it, and so does what
comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from aiaas_async.errors import ArtifactError, InputError
from aiaas_async.formats.texts import nul_at_end
from aiaas_async.messages import DTYPES, TensorSpec
from aiaas_async.names import clip
from aiaas_async.nn.graph import near
from aiaas_async.runtimes.base import Array, Arrays

STRING: Final = "string"
NUMPY: Final[dict[str, np.dtype[Any]]] = {n: np.dtype(n) for n in DTYPES if n != STRING}
# A string array is as wide as its longest string: 10,000 short ones and a long one would be huge.
MAX_STRING_ARRAY_BYTES: Final = 64 << 20


def check_inputs(arrays: Arrays, specs: Sequence[TensorSpec]) -> int:
    """The number of rows in `arrays`. Raises `InputError` unless they are what `specs` say."""
    known = [spec.name for spec in specs]
    for name in arrays:
        if name not in known:
            raise InputError(f"there is no input {clip(name)}{near(name, known)}")
    for spec in specs:
        if spec.name not in arrays:
            raise InputError(f"input {spec.name!r} is missing")
        _check_input(arrays[spec.name], spec)
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        raise InputError(f"the inputs differ in their number of rows: {counts}")
    return next(iter(counts.values()))


def _check_input(array: Array, spec: TensorSpec) -> None:
    if not _fits(array.shape, spec) or not _is_of(array, spec):
        wanted = ("N", *("any" if d == -1 else d for d in spec.shape or ()))
        raise InputError(
            f"input {spec.name!r} must be {spec.dtype} [{', '.join(map(str, wanted))}], "
            f"got {_dtype_of(array)} {list(array.shape)}"
        )


def _fits(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    """Whether `shape`, batch first, is one of `spec`."""
    if spec.shape is None:
        return len(shape) > 0
    return len(shape) == 1 + len(spec.shape) and all(
        want in (-1, got) for want, got in zip(spec.shape, shape[1:], strict=True)
    )


def _is_of(array: Array, spec: TensorSpec) -> bool:
    """Whether `array` has the dtype of `spec`."""
    if spec.dtype == STRING:
        return array.dtype.kind == "U"
    return bool(array.dtype == NUMPY[spec.dtype or ""])


def _dtype_of(array: Array) -> str:
    return STRING if array.dtype.kind == "U" else array.dtype.name


def asked(outputs: Sequence[str] | None, specs: Sequence[TensorSpec]) -> list[str]:
    """The names of the outputs to give (None: all). Raises `InputError` for an unknown one."""
    known = [spec.name for spec in specs]
    for name in outputs or ():
        if name not in known:
            raise InputError(f"there is no output {clip(name)}{near(name, known)}")
    return known if outputs is None else list(outputs)


def promised(found: Mapping[str, Any], specs: Sequence[TensorSpec], rows: int) -> dict[str, Array]:
    """What `specs` promise, out of what foreign code gave; other floats and integers are cast.

    Raises `ArtifactError` where the promise is not kept.
    """
    return {spec.name: _promised(found, spec, rows) for spec in specs}


def _promised(found: Mapping[str, Any], spec: TensorSpec, rows: int) -> Array:
    if spec.name not in found:
        raise ArtifactError(f"the model gave no output {spec.name!r}; it gave {clip(list(found))}")
    array = np.asarray(found[spec.name])
    if not _fits(array.shape, spec) or array.shape[0] != rows:
        raise ArtifactError(
            f"output {spec.name!r} has shape {list(array.shape)}; promised are {rows} rows of "
            f"{list(spec.shape or ())}"
        )
    if spec.dtype == STRING and array.dtype.kind in "OU":
        return texts(array, spec.name)
    wanted = NUMPY.get(spec.dtype or "")
    if wanted is None or not np.can_cast(array.dtype, wanted, "same_kind"):
        raise ArtifactError(f"output {spec.name!r} has dtype {array.dtype}, not {spec.dtype}")
    return array.astype(wanted, copy=False)


def texts(array: Array, name: str) -> Array:
    """An array of Python strings as a fixed-width one. Raises `ArtifactError`, `InputError`."""
    if array.dtype.kind != "U":
        items = array.ravel().tolist()
        if not all(isinstance(item, str) for item in items):
            raise ArtifactError(f"output {name!r} holds something else than strings")
        if (fault := nul_at_end(items)) is not None:
            raise ArtifactError(f"output {name!r}: {fault}")
        width = max(map(len, items), default=0) or 1
        if 4 * width * array.size > MAX_STRING_ARRAY_BYTES:
            raise InputError(
                f"output {name!r}: {array.size} strings of up to {width} characters are too "
                "large together; send fewer items at once"
            )
        array = np.array(items, f"U{width}").reshape(array.shape)
    return array
