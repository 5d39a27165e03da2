"""What a pass takes in: the graph inputs, checked, floats in the dtype of computation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from aiaas_async.errors import InputError
from aiaas_async.messages import TensorSpec
from aiaas_async.nn.layer import Array


def admit(
    specs: Sequence[TensorSpec],
    read: Collection[str],
    inputs: Mapping[str, Array],
    dtype: np.dtype[Any] | None,
) -> dict[str, Array]:
    """The inputs named in `read`, by name. Raises `InputError` for what does not fit its spec.

    `dtype` is that of the parameters; a network without any computes in its inputs' own.
    """
    values: dict[str, Array] = {}
    for spec in specs:
        if spec.name not in read:
            continue
        if spec.name not in inputs:
            raise InputError(f"input {spec.name!r} is missing; given: {sorted(inputs)}")
        values[spec.name] = _fitting(spec, inputs[spec.name])
    if len({len(value) for value in values.values()}) > 1:
        lengths = {name: len(value) for name, value in values.items()}
        raise InputError(f"the inputs differ in their number of items: {lengths}")
    for name, value in values.items():
        if value.dtype.kind == "f":
            values[name] = value.astype(dtype or _wide(value), copy=False)
    return values


def _fitting(spec: TensorSpec, given: Array) -> Array:
    shape = spec.shape or ()
    ranks_agree = given.ndim == len(shape) + 1
    if not ranks_agree or any(
        e not in (-1, g) for e, g in zip(shape, given.shape[1:], strict=True)
    ):
        expected = ", ".join(["N", *map(str, shape)])
        raise InputError(f"input {spec.name!r} must be [{expected}], got {list(given.shape)}")
    integer = not (spec.dtype or "").startswith("float")
    if given.dtype.kind not in ("biu" if integer else "fbiu"):
        raise InputError(f"input {spec.name!r} must hold {spec.dtype}, got {given.dtype}")
    return given if integer or given.dtype.kind == "f" else given.astype(np.float32)


def _wide(value: Array) -> np.dtype[Any]:
    return np.result_type(value.dtype, np.float32)
