"""From a layer graph as data to checked nodes: options, wiring, shapes and kinds.

    {"inputs": [{"name": "x", "dtype": "float32", "shape": [4]}],
     "layers": [{"name": "hidden", "op": "dense", "units": 8},
                {"name": "active", "op": "relu"},
                {"name": "scores", "op": "dense", "units": 3, "inputs": ["active"]}],
     "outputs": ["scores"]}

A layer's inputs default to the layer before it (the first: the first graph input). It may name
only what is listed above it, so the order of the list is the order of computation and a cycle
cannot be written. Every error is a `GraphError` naming the layer, what was given and what is
possible.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import msgspec

from aiaas_async.errors import GraphError, InvalidError
from aiaas_async.messages import MAX_DIMENSIONS, TensorSpec, check_specs
from aiaas_async.misfit import misfit
from aiaas_async.names import clip
from aiaas_async.nn.layer import FLOAT, Kind, Layer, ParameterSpec, Shape
from aiaas_async.nn.table import NAMES, OPS

MAX_LAYERS: Final = 1000
MAX_ELEMENTS: Final = 2**31 - 1  # of one value per item: 8 GiB of float32
_RESERVED: Final = ("name", "op", "inputs")


@dataclass(frozen=True, slots=True)
class Value:
    """What a graph input or a layer yields: its shape per item, and what it holds."""

    shape: Shape
    kind: Kind


@dataclass(frozen=True, slots=True)
class Node:
    """A layer in its place. `parameters` have their global names ("conv1.weight")."""

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    value: Value
    parameters: Mapping[str, ParameterSpec]


@dataclass(frozen=True, slots=True)
class Graph:
    inputs: tuple[TensorSpec, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]


@dataclass(slots=True)
class _Builder:
    values: dict[str, Value]
    previous: str
    nodes: list[Node] = field(default_factory=list)

    def add(self, raw: Any) -> None:
        place = f"layer {len(self.nodes) + 1}"
        if not isinstance(raw, Mapping) or not all(isinstance(key, str) for key in raw):
            raise GraphError(f"{place} must be an object {{name, op, options}}, got {clip(raw)}")
        name = self._new_name(place, raw.get("name"))
        layer = parse_layer(name, raw)
        sources = self._sources(name, raw.get("inputs"))
        node = self._place(name, layer, sources)
        self.nodes.append(node)
        self.values[name] = node.value
        self.previous = name

    def _new_name(self, place: str, name: Any) -> str:
        if not isinstance(name, str) or not 1 <= len(name) <= 64 or not name.isprintable():
            raise GraphError(f"{place}: 'name' must be 1 to 64 characters, got {clip(name)}")
        if name in self.values:
            raise GraphError(f"{place}: the name {clip(name)} is taken by an earlier one")
        return name

    def _sources(self, name: str, given: Any) -> tuple[str, ...]:
        if given is None:
            return (self.previous,)
        if not isinstance(given, list | tuple) or not all(isinstance(s, str) for s in given):
            raise GraphError(f"layer {name!r}: 'inputs' must be a list of names, got {clip(given)}")
        for source in given:
            if source not in self.values:
                hint = near(source, self.values)
                raise GraphError(
                    f"layer {name!r}: input {clip(source)} is neither a graph input nor a layer "
                    f"listed above it{hint}"
                )
        return tuple(given)

    def _place(self, name: str, layer: Layer, sources: tuple[str, ...]) -> Node:
        op, given = NAMES[type(layer)], [self.values[source] for source in sources]
        label = f"layer {name!r} ({op})"
        fits = len(sources) >= 2 if layer.ARITY is None else len(sources) == layer.ARITY
        if not fits:
            expected = "two or more inputs" if layer.ARITY is None else f"{layer.ARITY} input"
            raise GraphError(f"{label} takes {expected}, got {clip(list(sources))}")
        _check_kinds(label, layer, sources, given)
        shapes = [value.shape for value in given]
        try:
            shape = layer.infer(shapes)
        except GraphError as error:
            raise GraphError(f"{label}: {error.message}", error.details) from error
        check_size(label, shape)
        specs = {f"{name}.{local}": spec for local, spec in layer.parameters(shapes).items()}
        for parameter, spec in specs.items():
            check_size(f"{label}: {parameter!r}", spec.shape)
        return Node(name, layer, sources, Value(shape, layer.kind(given[0].kind)), specs)


def parse_graph(spec: Mapping[str, Any]) -> Graph:
    """The checked graph a spec describes. Raises `GraphError`."""
    if not isinstance(spec, Mapping):
        raise GraphError(f"a layer graph must be an object, got {clip(spec)}")
    keys = ("inputs", "layers", "outputs")
    for key in spec:
        if key not in keys:
            raise GraphError(f"a layer graph has no {clip(key)}; it has {', '.join(keys)}")
    for key in keys:
        if not isinstance(spec.get(key), list | tuple) or not spec[key]:
            raise GraphError(f"'{key}' must be a list, not empty; got {clip(spec.get(key))}")
    if len(spec["layers"]) > MAX_LAYERS:
        raise GraphError(f"{len(spec['layers'])} layers were given; at most {MAX_LAYERS} may be")
    inputs = _parse_inputs(spec["inputs"])
    values = {i.name: Value(i.shape or (), _kind_of(i.dtype)) for i in inputs}
    builder = _Builder(values, inputs[0].name)
    for raw in spec["layers"]:
        builder.add(raw)
    return Graph(inputs, tuple(builder.nodes), _parse_outputs(spec["outputs"], builder.nodes))


def parse_layer(name: str, raw: Mapping[str, Any]) -> Layer:
    """The options of one layer. Raises `GraphError`."""
    op = raw.get("op")
    if not isinstance(op, str) or op not in OPS:
        _refuse(f"layer {name!r}: op {clip(op)} is not known", op, OPS)
    options = {key: value for key, value in raw.items() if key not in _RESERVED}
    possible = OPS[op].__struct_fields__
    for key in options:
        if key not in possible:
            _refuse(f"layer {name!r} ({op}): there is no option {clip(key)}", key, possible)
    try:
        layer = msgspec.convert(options, OPS[op], strict=True)
    except msgspec.ValidationError as error:
        raise GraphError(f"layer {name!r} ({op}): {misfit(error, options, OPS[op])}") from error
    for key in possible:
        if not _finite(getattr(layer, key)):
            raise GraphError(f"layer {name!r} ({op}): {key} must be finite")
    return layer


def render_graph(graph: Graph) -> dict[str, Any]:
    """The canonical spec: options at their defaults are left out, so are inputs by default."""
    layers, previous = [], graph.inputs[0].name
    for node in graph.nodes:
        rendered = {"name": node.name, "op": NAMES[type(node.layer)]}
        if node.inputs != (previous,):
            rendered["inputs"] = list(node.inputs)  # type: ignore[assignment]
        layers.append(rendered | _options(node.layer))
        previous = node.name
    inputs = [
        {"name": i.name, "dtype": i.dtype, "shape": list(i.shape or ())} for i in graph.inputs
    ]
    return {"inputs": inputs, "layers": layers, "outputs": list(graph.outputs)}


def near(given: object, possible: Collection[str]) -> str:
    """A hint to end a message with: the near miss, or all that is possible."""
    close = difflib.get_close_matches(str(given)[:64], possible, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; possible: {', '.join(possible)}"


def check_size(label: str, shape: Shape) -> None:
    """Raise `GraphError` when one value of `shape` is beyond what could be computed."""
    if len(shape) > MAX_DIMENSIONS:
        raise GraphError(f"{label}: {len(shape)} dimensions; at most {MAX_DIMENSIONS} may be")
    if math.prod(abs(size) for size in shape) > MAX_ELEMENTS:
        raise GraphError(f"{label}: shape {list(shape)} has more than {MAX_ELEMENTS} values")


def _parse_inputs(raw: Sequence[Any]) -> tuple[TensorSpec, ...]:
    try:
        specs = msgspec.convert(raw, tuple[TensorSpec, ...], strict=True)
        check_specs("inputs", specs)
    except msgspec.ValidationError as error:
        said = misfit(error, raw, tuple[TensorSpec, ...], "inputs")
        raise GraphError(f"a layer graph's {said}") from error
    except InvalidError as error:
        raise GraphError(f"a layer graph's inputs: {error}") from error
    for spec in specs:
        if spec.dtype is None or spec.shape is None:
            raise GraphError(f"input {spec.name!r}: give both dtype and shape (per item)")
        if spec.dtype == "string":
            raise GraphError(f"input {spec.name!r}: layers compute numbers, not strings")
        if 0 in spec.shape:
            raise GraphError(f"input {spec.name!r}: shape {list(spec.shape)} holds no values")
        check_size(f"input {spec.name!r}", spec.shape)
    return specs


def _parse_outputs(raw: Sequence[Any], nodes: Sequence[Node]) -> tuple[str, ...]:
    names = [node.name for node in nodes]
    for name in raw:
        if name not in names:
            _refuse(f"output {clip(name)} is not a layer", name, names)
    if len(set(raw)) != len(raw):
        raise GraphError(f"outputs repeat: {clip(list(raw))}")
    return tuple(raw)


def _check_kinds(label: str, layer: Layer, sources: Sequence[str], given: Sequence[Value]) -> None:
    for source, value in zip(sources, given, strict=True):
        if value.kind not in layer.TAKES:
            hint = "; put a scale layer before it" if value.kind == "integer" else ""
            raise GraphError(
                f"{label} takes {' or '.join(layer.TAKES)} values, but {source!r} holds "
                f"{value.kind}{hint}"
            )
        if value.kind != given[0].kind:
            raise GraphError(f"{label} takes inputs of one kind, got {clip(list(sources))}")


def _refuse(message: str, given: object, possible: Collection[str]) -> NoReturn:
    raise GraphError(message + near(given, possible))


def _kind_of(dtype: str | None) -> Kind:
    return FLOAT if dtype is not None and dtype.startswith("float") else "integer"


def _finite(value: Any) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    return all(not isinstance(each, float) or math.isfinite(each) for each in values)


def _options(layer: Layer) -> dict[str, Any]:
    """What differs from the defaults, JSON-like."""
    fields = msgspec.structs.fields(type(layer))
    kept = {f.name: v for f in fields if (v := getattr(layer, f.name)) != f.default}
    rendered: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(kept))
    return rendered
