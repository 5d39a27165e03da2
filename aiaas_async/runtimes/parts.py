"""Submodels from a weights file: each maps only the bytes of its own parameters.

A parameter whose bytes lie in one piece (a whole one, or a slice of its first axis) is a view on
a map of just those; any other slice is copied once, and the map of what it was cut from closes
again. float16, bfloat16 and float64 are converted to float32, as for whole models. (What is then
laid out for the processor, by `nn/layout.py`, is copied as well.)
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from aiaas_async.errors import ArtifactError
from aiaas_async.formats.files import opened
from aiaas_async.formats.safetensors import BFLOAT16, Header, Tensor, read_header
from aiaas_async.nn.layer import Array
from aiaas_async.nn.submodel import Part, Slice, Submodel

_DTYPES: Final = {"F32": "<f4", "F16": "<f2", BFLOAT16: "<u2", "F64": "<f8"}


def submodel_of(part: Part) -> Submodel:
    """The submodel that `part` describes. Raises `GraphError`."""
    return Submodel.of(part.graph, part.slices)


def check_part(submodel: Submodel, path: Path | None) -> None:
    """Raise `ArtifactError` unless the file at `path` holds what the submodel needs."""
    if path is None:
        if submodel.parameters:
            raise ArtifactError(
                "this part of the graph has parameters but there is no weights file"
            )
        return
    header = read_header(path)
    for name in submodel.parameters:
        _check_parameter(submodel, header, name)


def part_weights(submodel: Submodel, path: Path | None) -> dict[str, Array]:
    """The submodel's parameters, float32. Raises `ArtifactError`."""
    check_part(submodel, path)
    if path is None:
        return {}
    header, slices = read_header(path), submodel.part.slices
    with opened(path, "a safetensors file") as (file, _):
        return {
            name: _read(file, header.start, header.tensors[name], slices.get(name))
            for name in submodel.parameters
        }


def _check_parameter(submodel: Submodel, header: Header, name: str) -> None:
    tensor = header.tensors.get(name)
    if tensor is None:
        raise ArtifactError(f"the weights file has no {name!r}, which this part of the graph needs")
    if tensor.dtype not in _DTYPES:
        raise ArtifactError(
            f"weight {name!r} has dtype {tensor.dtype}; possible: {', '.join(_DTYPES)}"
        )
    cut, needed = submodel.part.slices.get(name), submodel.network.parameter_specs()[name][0]
    if cut is not None and not cut.lies_within(tensor.shape):
        of = "" if cut.blocks == 1 else f" in each of {cut.blocks} blocks"
        raise ArtifactError(
            f"weight {name!r} {list(tensor.shape)} has no entries {cut.start} to {cut.stop} along "
            f"axis {cut.axis}{of}"
        )
    if _shape(tensor, cut) != needed:
        raise ArtifactError(
            f"weight {name!r} is {list(_shape(tensor, cut))} in the file; this part of the graph "
            f"has {list(needed)}"
        )


def _shape(tensor: Tensor, cut: Slice | None) -> tuple[int, ...]:
    return tensor.shape if cut is None else cut.shape(tensor.shape)


def _read(file: BinaryIO, start: int, tensor: Tensor, cut: Slice | None) -> Array:
    shape, begin = tensor.shape, start + tensor.begin
    if cut is not None and cut.axis == 0 and cut.blocks == 1:  # rows: one piece of the file
        begin += cut.start * math.prod(shape[1:]) * np.dtype(_DTYPES[tensor.dtype]).itemsize
        shape, cut = _shape(tensor, cut), None
    mapped = _map(file, tensor.dtype, shape, begin)
    if cut is not None:
        mapped = cut.cut(mapped)
    if tensor.dtype == BFLOAT16:
        return (mapped.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(mapped, np.float32)


def _map(file: BinaryIO, dtype: str, shape: tuple[int, ...], begin: int) -> Array:
    if not math.prod(shape):  # an empty map is refused
        return np.zeros(shape, _DTYPES[dtype])
    return np.asarray(np.memmap(file, _DTYPES[dtype], "r", begin, shape))
