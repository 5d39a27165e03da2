"""The signature of an ONNX model: which of its dimensions is the batch, and which dtypes it may
have here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiaas_async.errors import ArtifactError, InvalidError
from aiaas_async.messages import TensorSpec, check_specs
from aiaas_async.names import clip
from aiaas_async.runtimes.base import Array

_DTYPES: Final = {
    "tensor(bool)": "bool",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "string",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output as the model has it: `shape` with its batch dimension, -1 for any
    length, None if only a run will show it."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None

    @property
    def is_one_item(self) -> bool:
        """Whether the model has room for one item only: a batch of one, or no batch at all."""
        return self.shape is not None and self.shape[:1] in ((1,), ())

    def of_item(self, array: Array, index: int) -> Array:
        """Row `index` of a batch, in the shape the model takes."""
        return array[index, ...] if self.shape == () else array[index : index + 1]


def specs_of(tensors: Sequence[Tensor]) -> tuple[TensorSpec, ...]:
    """The signature per item."""
    return tuple(
        TensorSpec(t.name, t.dtype, None if t.shape is None else t.shape[1:]) for t in tensors
    )


def read_tensors(side: str, given: Sequence[Any], shapeless: Collection[str]) -> tuple[Tensor, ...]:
    """The inputs or outputs (`side`) of a session. Raises `ArtifactError` for what cannot be
    served."""
    try:
        tensors = tuple(_read(side, value, shapeless) for value in given)
        check_specs(f"{side}s", specs_of(tensors))
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{side}s: a name is not UTF-8") from error
    except InvalidError as error:
        raise ArtifactError(error.message, error.details) from error
    return tensors


def _read(side: str, value: Any, shapeless: Collection[str]) -> Tensor:
    label = f"{side} {clip(value.name)}"
    if value.type not in _DTYPES:
        raise ArtifactError(
            f"{label} is {clip(value.type)}, which cannot be served; possible are "
            f"{', '.join(_DTYPES)}"
        )
    # onnxruntime says [] for a scalar and for what has no declared shape.
    shape = _shape(value.shape) if value.shape or value.name not in shapeless else None
    if shape is None and side == "input":
        raise ArtifactError(f"{label} declares no shape; export the model with one")
    if shape and shape[0] not in (-1, 1):
        raise ArtifactError(
            f"{label} has shape {list(shape)}: its first dimension must be the batch, of any "
            "length (symbolic) or 1; export the model with a dynamic batch"
        )
    return Tensor(value.name, _DTYPES[value.type], shape)


def _shape(dimensions: Sequence[Any]) -> tuple[int, ...]:
    """-1 for a dimension that has a name, or neither a name nor a length."""
    return tuple(d if isinstance(d, int) and d >= 0 else -1 for d in dimensions)
