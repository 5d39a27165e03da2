"""The runtime "numpy": a layer graph with its weights in one safetensors file.

The weights stay where they are: float32 is computed on in the page cache, which all workers
share, of the file itself or of what `lay_out` made of it; float16, bfloat16 and float64 are
converted to float32 once, at load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from aiaas_async.errors import ArtifactError, InputError
from aiaas_async.formats.graphfile import FILE_NAME, read_graph
from aiaas_async.formats.safetensors import Header, map_tensors, read_header, write_tensors
from aiaas_async.messages import TensorSpec, check_specs
from aiaas_async.names import clip
from aiaas_async.nn.folding import folded, folded_count
from aiaas_async.nn.fusing import fused, fused_count
from aiaas_async.nn.graph import near
from aiaas_async.nn.layout import panel_count, shareable, use_panels
from aiaas_async.nn.network import Network
from aiaas_async.nn.panelled import as_panels
from aiaas_async.nn.submodel import Part, Submodel
from aiaas_async.runtimes.base import Array, Arrays, Artifact, Inspection, Wrt
from aiaas_async.runtimes.objective import objective, only_target
from aiaas_async.runtimes.parts import check_part, part_weights, submodel_of

WEIGHTS_SUFFIX: Final = ".safetensors"
_FLOATS: Final = ("F32", "F16", "BF16", "F64")
_MAPPED: Final = "F32"


class LayersRuntime:
    def inspect(self, artifact: Artifact) -> Inspection:
        if artifact.part is not None:
            part = _part_of(artifact.part)
            check_part(part, _weights_file(artifact))
            return Inspection(
                part.network.inputs, part.network.outputs, part.nbytes, deterministic=True
            )
        network = network_of(artifact)
        return Inspection(
            network.inputs, network.outputs, _resident(network, artifact), deterministic=True
        )

    def load(self, artifact: Artifact) -> LayersPredictor:
        if artifact.part is not None:
            part = _part_of(artifact.part)
            predictor, kept = folded(part.network, part_weights(part, _weights_file(artifact)))
            use_panels(predictor, kept, {})
            return LayersPredictor(part.network, part.nbytes, predictor, kept)
        network = network_of(artifact)
        nbytes, weights = _resident(network, artifact), weights_of(network, artifact)
        predictor, kept = fused(*folded(network, weights))
        shared = _shared(artifact.laid_out)
        mapped = {name for name, array in kept.items() if array is weights.get(name)}
        use_panels(predictor, kept, shared, left=mapped)
        return LayersModel(network, nbytes, predictor, kept, weights)

    def lay_out(self, artifact: Artifact, path: Path) -> bool:
        network = network_of(artifact)
        names, source = shareable(network), _weights_path(network, artifact)
        if not names or source is None:
            return False
        tensors = map_tensors(source).tensors
        found = {name: as_panels(np.asarray(tensors[name], np.float32)) for name in names}
        write_tensors(path, found, durable=False)  # made anew when the server starts again
        return True


@dataclass(slots=True)
class LayersPredictor:
    """A network, and what predicts the same in fewer steps with weights that nothing here writes
    to."""

    network: Network
    nbytes: int
    predictor: Network
    predictor_params: Mapping[str, Array]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.network.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.network.outputs

    def predict(self, arrays: Arrays, outputs: Sequence[str] | None) -> dict[str, Array]:
        self._check_inputs(arrays)
        known = self.network.graph.outputs
        for name in outputs or ():
            if name not in known:
                raise InputError(f"there is no output {clip(name)}{near(name, known)}")
        return self.predictor.predict(self.predictor_params, arrays, outputs)

    def _check_inputs(self, given: Arrays) -> None:
        names = [spec.name for spec in self.network.inputs]
        for name in given:
            if name not in names:
                raise InputError(f"there is no input {clip(name)}{near(name, names)}")

    def close(self) -> None:
        self.predictor_params = {}  # a map closes with the last view on it


@dataclass(slots=True)
class LayersModel(LayersPredictor):
    """A whole network, with its weights as they are trained."""

    params: Mapping[str, Array]

    def loss(self, inputs: Arrays, targets: Arrays, loss: str | None, output: str | None) -> float:
        self._check_inputs(inputs)
        aim = objective(self.network, output, loss)
        found = self.network.predict(self.params, inputs, [aim.output])
        return aim(found[aim.output], only_target(targets, aim.output))[0]

    def gradient(
        self, inputs: Arrays, targets: Arrays, loss: str | None, output: str | None, wrt: Wrt
    ) -> tuple[float, dict[str, Array], dict[str, Array]]:
        self._check_inputs(inputs)
        aim = objective(self.network, output, loss)
        found, cache = self.network.forward(self.params, inputs, outputs=[aim.output])
        value, slope = aim(found[aim.output], only_target(targets, aim.output))
        by_input, by_parameter = self.network.backward(
            self.params,
            cache,
            {aim.output: slope},
            wrt_inputs=wrt != "parameters",
            wrt_params=wrt != "inputs",
        )
        return value, by_input, by_parameter

    def close(self) -> None:
        super(LayersModel, self).close()
        self.params = {}


def network_of(artifact: Artifact) -> Network:
    """The artifact's layer graph: the registered one, or the file graph.json.

    Raises `ArtifactError` when there is none or both differ, `InvalidError` for an unsound one.
    """
    path = artifact.files.get(FILE_NAME)
    if artifact.graph is None and path is None:
        raise ArtifactError(
            f"there is no layer graph: register the version with 'graph', or upload {FILE_NAME}"
        )
    graph = read_graph(path) if path is not None else {}
    network = Network.from_spec(graph if artifact.graph is None else artifact.graph)
    check_specs("outputs", network.outputs)
    if (
        artifact.graph is not None
        and path is not None
        and Network.from_spec(graph).to_spec() != network.to_spec()
    ):
        raise ArtifactError(f"the registered graph and {FILE_NAME} differ; give one of them")
    return network


def weights_of(network: Network, artifact: Artifact) -> dict[str, Array]:
    """The network's parameters, float32: views on the map, or converted copies.

    Raises `ArtifactError` when they do not fit the graph.
    """
    path = _weights_path(network, artifact)
    if path is None:
        return {}
    mapped = map_tensors(path)
    _check(network, mapped.header)
    return {name: np.asarray(array, np.float32) for name, array in mapped.tensors.items()}


def _shared(path: Path | None) -> Mapping[str, Array]:
    """The panels that others made; whoever finds them gone computes without."""
    return {} if path is None or not path.exists() else map_tensors(path).tensors


def weights_for(network: Network, artifact: Artifact) -> dict[str, Array]:
    """Of another graph's weights, those with the name and the shape of a parameter here.

    Raises `ArtifactError` when there are none.
    """
    path, specs = _weights_path(network, artifact), network.parameter_specs()
    tensors = {} if path is None else map_tensors(path).tensors
    found = {
        name: np.asarray(array, np.float32)
        for name, array in tensors.items()
        if name in specs and array.shape == specs[name][0] and array.dtype.kind == "f"
    }
    if not found:
        raise ArtifactError(
            f"none of the weights fits the graph: they are {clip(sorted(tensors))}, it has "
            f"{clip(sorted(specs))}"
        )
    return found


def _weights_path(network: Network, artifact: Artifact) -> Path | None:
    found = _weights_file(artifact)
    if found is None and network.parameter_specs():
        raise ArtifactError(
            f"the graph has {network.parameter_count} parameters but the artifact no "
            f"{WEIGHTS_SUFFIX} file that holds them"
        )
    return found


def _weights_file(artifact: Artifact) -> Path | None:
    found = sorted(label for label in artifact.files if label.endswith(WEIGHTS_SUFFIX))
    if len(found) > 1:
        raise ArtifactError(f"one {WEIGHTS_SUFFIX} file expected, got {len(found)}: {clip(found)}")
    return artifact.files[found[0]] if found else None


def _part_of(data: Mapping[str, Any]) -> Submodel:
    return submodel_of(Part.from_data(data))


def _resident(network: Network, artifact: Artifact) -> int:
    """Bytes that stay in memory once loaded: the mapped file, or what conversion makes of it.

    A mapped weight is not read again once it is laid out, and counted once.
    """
    path = _weights_path(network, artifact)
    if path is None:
        return 0
    header = read_header(path)
    _check(network, header)
    converted = {name: t for name, t in header.tensors.items() if t.dtype != _MAPPED}
    made = sum(math.prod(tensor.shape) for tensor in converted.values())
    made += panel_count(network.graph, converted)
    return header.file_size + 4 * made + folded_bytes(network)


def folded_bytes(network: Network) -> int:
    """Of the parameters that are made anew at load."""
    return 4 * (folded_count(network.graph) + fused_count(network.graph))


def _check(network: Network, header: Header) -> None:
    """Raise `ArtifactError` unless the file holds the graph's parameters and nothing else."""
    for name, tensor in header.tensors.items():
        if tensor.dtype not in _FLOATS:
            raise ArtifactError(
                f"weight {clip(name)} has dtype {tensor.dtype}; possible: {', '.join(_FLOATS)}"
            )
    # Stands in for each tensor without any memory: the network compares shapes alone.
    zero = np.zeros((), np.float32)
    network.check({n: np.broadcast_to(zero, t.shape) for n, t in header.tensors.items()})
