"""A submodel is a layer graph again: some of a network's layers, or a share of each.

Its parameters keep the network's names, so that any number of submodels map one weights file,
each touching only what is its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Self

import msgspec
import numpy as np

from aiaas_async.errors import InvalidError
from aiaas_async.messages import TensorSpec
from aiaas_async.nn.graph import Value, render_graph
from aiaas_async.nn.layer import FLOAT, Array, Shape
from aiaas_async.nn.network import Network

BYTES_PER_PARAMETER = 4  # weights are served as float32


class Slice(msgspec.Struct, frozen=True, array_like=True):
    """Entries `start` to `stop` of a parameter along one axis; where several parameters lie side
    by side in one, of each of the `blocks` equal parts of the axis."""

    axis: int
    start: int
    stop: int
    blocks: int = 1

    def lies_within(self, whole: Shape) -> bool:
        """Whether a parameter of that shape has such entries."""
        if not (0 <= self.axis < len(whole) and self.blocks > 0):
            return False
        size, rest = divmod(whole[self.axis], self.blocks)
        return not rest and 0 <= self.start < self.stop <= size

    def shape(self, whole: Shape) -> Shape:
        """The slice's shape, of a parameter of shape `whole`."""
        length = self.blocks * (self.stop - self.start)
        return (*whole[: self.axis], length, *whole[self.axis + 1 :])

    def cut(self, whole: Array) -> Array:
        """A copy of the slice of `whole`."""
        axis, shape = self.axis, whole.shape
        each = shape[axis] // self.blocks
        blocks = whole.reshape(*shape[:axis], self.blocks, each, *shape[axis + 1 :])
        at = (*(slice(None),) * (axis + 1), slice(self.start, self.stop))
        return blocks[at].copy().reshape(self.shape(shape))


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A submodel as data: its graph, and which of its parameters are slices of the file's."""

    graph: dict[str, Any]
    slices: dict[str, Slice] = {}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_data`. Raises `InvalidError`."""
        try:
            return msgspec.convert(dict(data), cls, strict=True)
        except msgspec.ValidationError as error:
            raise InvalidError(f"a part of a model: {error}") from error

    def to_data(self) -> dict[str, Any]:
        """JSON-like, as it travels to a worker."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data


@dataclass(frozen=True, eq=False)
class Submodel:
    part: Part
    network: Network

    @classmethod
    def of(cls, graph: Mapping[str, Any], slices: Mapping[str, Slice] | None = None) -> Self:
        """Raises `GraphError`."""
        return cls(Part(dict(graph), dict(slices or {})), Network.from_spec(graph))

    @cached_property
    def layers(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.network.graph.nodes)

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        return tuple(self.network.parameter_specs())

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.network.inputs)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        return self.network.graph.outputs

    @cached_property
    def nbytes(self) -> int:
        """What stays resident once it is loaded: the parameters, or what is folded of them."""
        return BYTES_PER_PARAMETER * self.network.parameter_count


def value_specs(network: Network) -> dict[str, TensorSpec]:
    """What each graph input and each layer yields, as an input of a submodel would declare it.

    Float inputs are declared as what they are computed in (`computed_inputs`).
    """
    computed = bool(network.parameter_specs())
    found: dict[str, TensorSpec] = {}
    for spec in network.inputs:
        wide = computed and (spec.dtype or "").startswith("float")
        found[spec.name] = TensorSpec(spec.name, "float32" if wide else spec.dtype, spec.shape)
    floating = "float32"
    if not computed and any(spec.dtype == "float64" for spec in network.inputs):
        floating = "float64"
    for node in network.graph.nodes:
        source = found[node.inputs[0]].dtype
        dtype = floating if node.value.kind == FLOAT else _discrete(node.value, source)
        found[node.name] = TensorSpec(node.name, dtype, node.value.shape)
    return found


def _discrete(value: Value, source: str | None) -> str:
    """Indices are int64; integers that are only moved stay what they were."""
    if value.kind == "string":
        return "string"
    return "int64" if source is None or source.startswith("float") else source


@lru_cache(maxsize=4)  # a search for the best split asks again and again, and rendering is slow
def layer_specs(network: Network) -> Mapping[str, Mapping[str, Any]]:
    """Each layer's canonical description by name, with its inputs written out."""
    rendered = render_graph(network.graph)["layers"]
    return {
        node.name: raw | {"inputs": list(node.inputs)}
        for node, raw in zip(network.graph.nodes, rendered, strict=True)
    }


def input_specs(specs: Mapping[str, TensorSpec], names: Iterable[str]) -> list[dict[str, Any]]:
    """The values `names` as a graph's inputs."""
    return [msgspec.to_builtins(specs[name]) for name in names]


def computed_inputs(network: Network, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """A whole network's inputs as its submodels take them: floats in what they are computed in.

    A submodel without parameters would else compute on float64 where the whole does not.
    """
    narrow = _narrowed(network)
    return {
        name: array.astype(np.float32, copy=False) if name in narrow else array
        for name, array in inputs.items()
    }


@lru_cache(maxsize=64)  # asked once a call
def _narrowed(network: Network) -> frozenset[str]:
    """The inputs that are computed in float32 whatever they come as."""
    if not network.parameter_specs():
        return frozenset()
    return frozenset(s.name for s in network.inputs if (s.dtype or "").startswith("float"))


def join_rows(pieces: Sequence[Array]) -> Array:
    """The rows of a batch that was computed in pieces."""
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def blank_inputs(inputs: Sequence[TensorSpec], rows: int) -> dict[str, Array]:
    """Zeros as inputs, to warm a model with; a length that is open (-1) is one."""
    found = {}
    for spec in inputs:
        shape = [max(1, size) for size in spec.shape or ()]
        found[spec.name] = np.zeros((rows, *shape), spec.dtype)  # a dtype from the list, checked
    return found
