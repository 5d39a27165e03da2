"""A network: the passes over a layer graph, on parameters that come from outside.

Nothing here remembers a pass: `forward` hands out a `Cache` and `backward` takes it, so one
network serves any number of callers at once. Float inputs are computed in the parameters'
dtype (float32 as served; float64 for gradient checks). Arrays given are never written to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from aiaas_async.errors import ArtifactError, GraphError
from aiaas_async.messages import TensorSpec
from aiaas_async.nn.admission import admit
from aiaas_async.nn.dependence import Dependence, chosen_parameters, dependence, trainable
from aiaas_async.nn.descent import Descent, descent
from aiaas_async.nn.graph import Graph, Node, near, parse_graph, render_graph
from aiaas_async.nn.initial import draw, feeds_rectifier
from aiaas_async.nn.layer import Array, Mode, Need, Shape
from aiaas_async.nn.route import Route, route_to

Params = dict[str, Array]


@dataclass(slots=True)
class Cache:
    """What one forward pass leaves for its backward pass.

    `updates` holds new running statistics by parameter name; merge them into the parameters.
    """

    outputs: tuple[str, ...]
    saved: dict[str, Any] = field(default_factory=dict)
    updates: Params = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A checked layer graph. Immutable; holds no arrays."""

    graph: Graph
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    _nodes: Mapping[str, Node]
    reach: Dependence
    _frozen: frozenset[str] = frozenset()

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        """Build from the description in `graph.py`. Raises `GraphError`."""
        graph = parse_graph(spec)
        nodes = {node.name: node for node in graph.nodes}
        outputs = tuple(_output_spec(graph, nodes[name]) for name in graph.outputs)
        return cls(graph, graph.inputs, outputs, nodes, dependence(graph))

    def with_nodes(self, nodes: Sequence[Node]) -> Self:
        """Other layers, in order, between the same inputs and outputs."""
        graph = replace(self.graph, nodes=tuple(nodes))
        by_name = {node.name: node for node in nodes}
        return replace(self, graph=graph, _nodes=by_name, reach=dependence(graph))

    def training_only(self, patterns: Sequence[str]) -> Self:
        """The same network, of which only the parameters that a pattern fits are trained: "head"
        or "head.weight", with * and ? as in file names.

        The layers before the first trained one predict, and nothing is kept of them; a
        batch_norm that is not trained itself keeps its statistics. There are no gradients of
        inputs. Raises `GraphError` for a pattern that fits nothing.
        """
        names = [name for node in self.graph.nodes for name in trainable(node)]
        frozen = frozenset(names) - chosen_parameters(self.graph, patterns)
        found = replace(dependence(self.graph, frozen), fed=frozenset())
        return replace(self, reach=found, _frozen=frozen)

    def trained(self, node: Node) -> list[str]:
        """The node's parameters that a training changes by gradients."""
        return [name for name in trainable(node) if name not in self._frozen]

    @property
    def trained_parameters(self) -> list[str]:
        return [name for node in self.graph.nodes for name in self.trained(node)]

    def to_spec(self) -> dict[str, Any]:
        """The canonical description, JSON-able; `from_spec` of it is the same network."""
        return render_graph(self.graph)

    def parameter_specs(self) -> dict[str, tuple[Shape, str]]:
        """Shape and dtype of each parameter, known before anything is allocated."""
        found = (node.parameters.items() for node in self.graph.nodes)
        return {name: (spec.shape, "float32") for items in found for name, spec in items}

    @property
    def parameter_count(self) -> int:
        return sum(prod(shape) for shape, _ in self.parameter_specs().values())

    def init(self, seed: int | np.random.Generator, dtype: DTypeLike = np.float32) -> Params:
        """Fresh parameters, drawn as `initial.py` says; equal seeds give equal bits."""
        rng = np.random.default_rng(seed)
        params: Params = {}
        for node in self.graph.nodes:
            rectified = bool(node.parameters) and feeds_rectifier(self.graph.nodes, node.name)
            for name, spec in node.parameters.items():
                params[name] = draw(spec, rectified, rng).astype(dtype)
        return params

    def check(self, params: Mapping[str, Array]) -> None:
        """Raise `ArtifactError` naming what is missing, too many, or of another shape or type."""
        specs = self.parameter_specs()
        missing, extra = sorted(specs.keys() - params.keys()), sorted(params.keys() - specs.keys())
        if missing or extra:
            raise ArtifactError(
                f"the weights do not fit the graph: missing {_some(missing)}, unknown "
                f"{_some(extra)}",
                {"missing": missing[:20], "unknown": extra[:20]},
            )
        for name, (shape, dtype) in specs.items():
            array = params[name]
            if array.shape != shape or array.dtype.kind != "f":
                raise ArtifactError(
                    f"weight {name!r} is {array.dtype} {list(array.shape)}; the graph has "
                    f"{dtype} {list(shape)}"
                )

    def forward(
        self,
        params: Mapping[str, Array],
        inputs: Mapping[str, Array],
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        outputs: Sequence[str] | None = None,
    ) -> tuple[dict[str, Array], Cache]:
        """Outputs [N, *shape] by name (any layer may be asked for), and the cache.

        `training` turns on dropout, which draws from `rng`, and batch statistics.
        Raises `InputError` for inputs that do not fit, `GraphError` for an unknown output.
        """
        wanted = self._wanted(outputs)
        cache = Cache(wanted)
        mode = Mode(training=training, rng=rng)
        return self._run(params, inputs, mode, cache), cache

    def predict(
        self,
        params: Mapping[str, Array],
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        """As `forward`, but nothing is kept (`route.py`)."""
        route = _route(self, self._wanted(outputs), keep=False)
        values = admit(self.inputs, route.read, inputs, _dtype_of(params))
        return route.follow(params, values)

    def backward(
        self,
        params: Mapping[str, Array],
        cache: Cache,
        douts: Mapping[str, Array],
        *,
        wrt_inputs: bool,
        wrt_params: bool,
    ) -> tuple[dict[str, Array], Params]:
        """Gradients of the graph's inputs and of the trainable parameters by name.

        `douts` are the gradients [N, *shape] of outputs of the pass that made `cache`. Integer
        inputs that only index (embedding) have no gradient; a parameter that no given output
        depends on has a gradient of zeros. Raises `GraphError` for outputs that have none.
        """
        flow: dict[str, Array] = {}
        for name, dout in douts.items():
            self._check_differentiable(name, cache)
            flow[name] = dout
        grads: Params = {}
        way = _descent(self, cache.outputs, wrt_inputs, wrt_params)
        for back in way.steps:
            node = back.node
            dy = flow.pop(node.name, None)
            if dy is None:
                continue
            given = [params[name] for name in node.parameters]
            dxs, dparams = node.layer.backward(dy, cache.saved[node.name], given, back.need)
            grads.update(zip(back.gradients, dparams, strict=True))
            for source, dx in zip(node.inputs, dxs, strict=True):
                if dx is not None:
                    flow[source] = flow[source] + dx if source in flow else dx
        names = [spec.name for spec in self.inputs] if wrt_inputs else []
        asked = {
            name: grads[name] if name in grads else np.zeros_like(params[name])
            for name in way.trained
        }
        return {name: flow[name] for name in names if name in flow}, asked

    def _run(
        self, params: Mapping[str, Array], inputs: Mapping[str, Array], mode: Mode, cache: Cache
    ) -> dict[str, Array]:
        route, training = _route(self, cache.outputs, keep=True), mode.training
        values = self._given(route, params, inputs)
        for step in route.steps:
            node, layer = step.node, step.node.layer
            mode.own = step.own
            if self._frozen:
                if node.name not in self.reach.trained:
                    continue
                mode.training = training and (not node.parameters or bool(self.trained(node)))
            xs = [values[source] for source in node.inputs]
            ps = [params[name] for name in node.parameters]
            values[node.name], cache.saved[node.name] = layer.forward(xs, ps, mode)
            if mode.updates:
                _move(mode.updates, cache.updates, node.name)
            for name in step.spent:
                values.pop(name, None)
        return {name: values[name] for name in cache.outputs}

    def _given(
        self, route: Route, params: Mapping[str, Array], inputs: Mapping[str, Array]
    ) -> dict[str, Array]:
        """What a pass that keeps begins with: the inputs; with frozen parameters, what the layers
        before the first trained one predict."""
        if not self._frozen:
            return admit(self.inputs, route.read, inputs, _dtype_of(params))
        trained, nodes = self.reach.trained, [step.node for step in route.steps]
        read = {source for node in nodes if node.name in trained for source in node.inputs}
        values = admit(self.inputs, read, inputs, _dtype_of(params))
        wanted = read.union(route.outputs)
        before = [n.name for n in nodes if n.name not in trained and n.name in wanted]
        return values | (self.predict(params, inputs, before) if before else {})

    def _wanted(self, outputs: Sequence[str] | None) -> tuple[str, ...]:
        if outputs is None:
            return self.graph.outputs
        for name in outputs:
            if name not in self._nodes:
                raise GraphError(f"there is no layer {name!r} to read{near(name, self._nodes)}")
        return tuple(dict.fromkeys(outputs))

    def _check_differentiable(self, name: str, cache: Cache) -> None:
        if name not in cache.outputs:
            raise GraphError(
                f"{name!r} was no output of the forward pass; its outputs: {list(cache.outputs)}"
            )
        if not self._nodes[name].layer.DIFFERENTIABLE:
            raise GraphError(f"{name!r} has no gradient; take the layer before it")


@lru_cache(maxsize=64)  # asked once a call
def _route(network: Network, outputs: tuple[str, ...], *, keep: bool) -> Route:
    return route_to(network.graph, outputs, keep=keep)


@lru_cache(maxsize=64)
def _descent(
    network: Network, outputs: tuple[str, ...], wrt_inputs: bool, wrt_params: bool
) -> Descent:
    nodes = (step.node for step in _route(network, outputs, keep=True).steps)
    need, trained = Need(wrt_inputs, wrt_params), network.trained_parameters
    return descent(nodes, network.reach, trained, need)


def _dtype_of(params: Mapping[str, Array]) -> np.dtype[Any] | None:
    """What a network computes in."""
    return next((array.dtype for array in params.values()), None)


def _output_spec(graph: Graph, node: Node) -> TensorSpec:
    wide = not any(each.parameters for each in graph.nodes) and any(
        spec.dtype == "float64" for spec in graph.inputs
    )
    floating = "float64" if wide else "float32"
    dtypes = {"float": floating, "integer": "int64", "string": "string"}
    return TensorSpec(node.name, dtypes[node.value.kind], node.value.shape)


def _move(updates: Params, to: Params, prefix: str) -> None:
    to.update((f"{prefix}.{name}", array) for name, array in updates.items())
    updates.clear()


def _some(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    return f"{list(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
