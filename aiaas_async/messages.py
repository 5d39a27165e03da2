"""The vocabulary: signatures, metadata and records that registry, nodes, jobs and clients share.

All are frozen. Metadata as a user writes it (`inputs` may be bare names) and as the platform
answers it (a bare name stays a bare name) are the same type; `parse_metadata` and
`render_metadata` are inverse to each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from aiaas_async.errors import InvalidError
from aiaas_async.misfit import misfit
from aiaas_async.names import ModelRef, check_name, check_version, clip

# The whole list: a dtype outside it is refused before numpy sees it (np.dtype of hostile
# text cost 4.6 s and 283 MB).
DTYPES: Final = (
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "string",
)
MAX_DIMENSIONS: Final = 8
MAX_TENSORS: Final = 64


class TensorSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One named input or output: `shape` is per item, without the batch; -1 is any length.

    `dtype` and `shape` are None while unknown (registered by name only).
    """

    name: str
    dtype: str | None = None
    shape: tuple[int, ...] | None = None


class Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a version says of itself. `resources` are cores (`cpu`) and GiB (`memory`)."""

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    resources: dict[str, float] = {}
    description: str = ""
    tags: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    runtime: str = "numpy"
    graph: dict[str, Any] | None = None
    allow_nonfinite: bool = False
    lineage: dict[str, Any] | None = None

    @property
    def ref(self) -> ModelRef:
        return ModelRef(self.name, self.version)


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a version: `path` is the user's label, never a path on disk."""

    path: str
    sha256: str
    size: int


def parse_metadata(raw: Mapping[str, Any]) -> Metadata:
    """Metadata from a decoded body; raises `InvalidError` naming the field at fault."""
    if not isinstance(raw, Mapping):
        raise InvalidError(f"metadata must be an object, got {clip(raw)}")
    fields = dict(raw)
    for side in ("inputs", "outputs"):
        fields[side] = [{"name": s} if isinstance(s, str) else s for s in _list(fields, side)]
    try:
        metadata = msgspec.convert(fields, Metadata, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidError(f"metadata: {misfit(error, fields, Metadata)}") from error
    check_name(metadata.name, "model name")
    check_version(metadata.version)
    check_specs("inputs", metadata.inputs)
    check_specs("outputs", metadata.outputs)
    for name, amount in metadata.resources.items():
        if not 0 <= amount < float("inf"):
            raise InvalidError(f"resources: {name} must be a finite amount >= 0, got {amount}")
    for name, value in metadata.metrics.items():
        if not math.isfinite(value):
            raise InvalidError(f"metrics: {name} must be finite, got {value}")
    return metadata


def render_metadata(metadata: Metadata) -> dict[str, Any]:
    """The JSON-like form of `metadata`; a spec known by name only is the bare name."""
    out: dict[str, Any] = msgspec.to_builtins(metadata)
    for side in ("inputs", "outputs"):
        out[side] = [s["name"] if len(s) == 1 else s for s in out[side]]
    return out


def check_specs(what: str, specs: Sequence[TensorSpec]) -> None:
    """Raise `InvalidError` unless the specs have unique legal names, listed dtypes, sane shapes."""
    if not 1 <= len(specs) <= MAX_TENSORS:
        raise InvalidError(f"{what}: 1 to {MAX_TENSORS} expected, got {len(specs)}")
    if len({s.name for s in specs}) != len(specs):
        raise InvalidError(f"{what}: names repeat: {clip([s.name for s in specs])}")
    for spec in specs:
        if not 1 <= len(spec.name) <= 64 or not spec.name.isprintable():
            raise InvalidError(f"{what}: {clip(spec.name)} is not a tensor name")
        if spec.dtype is not None and spec.dtype not in DTYPES:
            raise InvalidError(
                f"{what}: {spec.name} has dtype {clip(spec.dtype)}; known: {', '.join(DTYPES)}"
            )
        shape = spec.shape or ()
        if len(shape) > MAX_DIMENSIONS or any(not -1 <= d < 2**31 for d in shape):
            raise InvalidError(
                f"{what}: {spec.name} has shape {clip(list(shape))}; at most "
                f"{MAX_DIMENSIONS} dimensions of -1 (any) or 0 to 2147483647"
            )


def _list(fields: Mapping[str, Any], key: str) -> list[Any]:
    value = fields.get(key)
    if not isinstance(value, list | tuple):
        raise InvalidError(
            f"metadata: '{key}' must be a list of names or of {{name, dtype, shape}}, "
            f"got {clip(value)}"
        )
    return list(value)
