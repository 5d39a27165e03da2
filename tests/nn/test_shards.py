"""Shards of a network together compute what it computes, each on its share of the weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.errors import GraphError, InvalidError
from aiaas_async.nn.dense import Dense
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from aiaas_async.nn.shards import Reduction, TensorPlan, reduce_values, tensor_shards
from aiaas_async.nn.split import live_layers
from aiaas_async.nn.submodel import BYTES_PER_PARAMETER, Part, Slice, Submodel
from tests.nn.graphs import Option, classifier, images, normal, residual, spec

CHANNELWISE = ("relu", "tanh", "gelu", "silu", "sigmoid", "dropout", "scale", "batch_norm")
WHOLE = ("layer_norm", "softmax", "concatenate")


def share(shard: Submodel, params: dict[str, Array]) -> dict[str, Array]:
    """The shard's own parameters, cut from the whole network's."""
    found = {}
    for name in shard.parameters:
        cut = shard.part.slices.get(name)
        found[name] = params[name] if cut is None else cut.cut(params[name])
    return found


def run(plan: TensorPlan, params: dict[str, Array], inputs: dict[str, Array]) -> dict[str, Array]:
    """The segments in order; each shard sees its own parameters and the reduced values alone."""
    own = [share(shard, params) for shard in plan.shards]
    values = dict(inputs)
    for segment in plan.segments:
        given: dict[str, list[Array]] = {}
        for step in segment.steps:
            feed = {name: values[name] for name in step.inputs}
            network = plan.shards[step.shard].network
            for name, y in network.predict(own[step.shard], feed, step.outputs).items():
                given.setdefault(name, []).append(y)
        for each in segment.reductions:
            values[each.target] = reduce_values(each.reduce, given[each.source])
    return {name: values[target] for name, target in plan.outputs.items()}


def assert_same(network: Network, plan: TensorPlan, inputs: dict[str, Array]) -> None:
    params = network.init(1)
    found = run(plan, params, inputs)
    expected = network.predict(params, inputs)
    assert found.keys() == expected.keys()
    for name, y in expected.items():
        scale = max(1.0, float(np.abs(y).max(initial=0.0)))
        np.testing.assert_allclose(found[name], y, rtol=1e-5, atol=1e-5 * scale)


@st.composite
def vectors(draw: st.DrawFn) -> Network:
    """Any wiring of layers on vectors of 6, with dense layers of any width in between."""
    names, widths, layers = ["x"], {"x": 6}, []
    for i in range(draw(st.integers(1, 10))):
        op = draw(st.sampled_from(("dense", "dense", "dense", "add", *CHANNELWISE, *WHOLE)))
        first = draw(st.sampled_from(names))
        alike = [name for name in names if widths[name] == widths[first]]
        join = op in ("add", "concatenate")
        sources = [first, draw(st.sampled_from(alike))] if join else [first]
        name, width = f"l{i}", widths[first] * (2 if op == "concatenate" else 1)
        layer: Option = {"name": name, "op": op, "inputs": sources}
        if op == "dense":
            width = draw(st.sampled_from((2, 6, 7)))
            layer |= {"units": width, "use_bias": draw(st.booleans())}
        layers.append(layer)
        widths[name] = width
        names.append(name)
    outputs = draw(st.lists(st.sampled_from(names[1:]), min_size=1, max_size=3, unique=True))
    return Network.from_spec(spec(layers, outputs, (6,)))


@settings(max_examples=150)
@given(vectors(), st.integers(1, 4), st.integers(1, 5))
def test_shards_together_give_the_whole_network_s_answers(
    network: Network, n: int, rows: int
) -> None:
    if can_be_split(network, n):
        plan = tensor_shards(network, n)
        assert_same(network, plan, {"x": normal((rows, 6)).astype(np.float32)})
    else:
        with pytest.raises(GraphError, match="no layer can be split"):
            tensor_shards(network, n)


def can_be_split(network: Network, n: int) -> bool:
    return any(isinstance(e.layer, Dense) and e.layer.units >= n for e in live_layers(network))


def convolutions() -> Network:
    """Each kind of layer that works on channels, between convolutions."""
    layers: list[Option] = [
        {"name": "c1", "op": "conv2d", "filters": 6, "kernel": [3, 3]},
        {"name": "n1", "op": "batch_norm"},
        {"name": "t1", "op": "normalise", "mean": [0.1] * 6, "std": [1.0, 2, 3, 4, 5, 6]},
        {"name": "u1", "op": "normalise", "mean": [0.5], "std": [0.5]},
        {"name": "a1", "op": "relu6"},
        {"name": "w1", "op": "depthwise_conv2d", "kernel": [3, 3], "stride": [2, 2]},
        {"name": "c2", "op": "conv2d", "filters": 5, "kernel": [1, 1]},
        {"name": "c3", "op": "conv2d", "filters": 5, "kernel": [3, 3], "use_bias": False},
        {"name": "p3", "op": "max_pool", "kernel": [2, 2], "stride": [1, 1]},
        {"name": "q3", "op": "avg_pool", "kernel": [2, 2], "stride": [1, 1]},
        {"name": "g3", "op": "global_avg_pool"},
        {"name": "f3", "op": "flatten"},
        {"name": "y", "op": "dense", "units": 4},
        {"name": "flat", "op": "flatten", "inputs": ["q3"]},
        {"name": "z", "op": "dense", "units": 3},
    ]
    return Network.from_spec(spec(layers, ["y", "z", "a1"], (8, 8, 3)))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_convolutions_split_by_filters_and_channels(n: int) -> None:
    network = convolutions()
    plan = tensor_shards(network, n)
    assert_same(network, plan, {"x": normal((3, 8, 8, 3)).astype(np.float32)})
    reduced = {r.source: r.reduce for segment in plan.segments for r in segment.reductions}
    assert reduced == {"a1": "concat", "c2": "sum", "q3": "concat", "y": "sum", "z": reduced["z"]}


@st.composite
def pictures(draw: st.DrawFn) -> Network:
    """Rows of layers on images, with branches joined where they fit."""
    layers: list[Option] = []
    channels, options = 3, ("conv2d", "conv2d", "depthwise_conv2d", "batch_norm", "relu", "add")
    for i in range(draw(st.integers(2, 8))):
        op = draw(st.sampled_from(options))
        layer: Option = {"name": f"l{i}", "op": op}
        if op == "conv2d":
            channels = draw(st.integers(1, 6))
            layer |= {"filters": channels, "use_bias": draw(st.booleans())}
        if op in ("conv2d", "depthwise_conv2d"):
            layer |= {"kernel": draw(st.sampled_from(([1, 1], [3, 3], [2, 3])))}
        if op == "add":
            layer["inputs"] = [f"l{i - 1}" if i else "x"] * 2
        layers.append(layer)
    ends = {"gap": "global_avg_pool", "flat": "flatten"}
    name = draw(st.sampled_from(sorted(ends)))
    layers += [{"name": name, "op": ends[name]}, {"name": "y", "op": "dense", "units": 3}]
    outputs = ["y", *draw(st.lists(st.sampled_from([f["name"] for f in layers[:-1]]), max_size=1))]
    return Network.from_spec(spec(layers, outputs, (5, 4, 3)))


@settings(deadline=None)
@given(pictures(), st.integers(1, 3))
def test_shards_of_image_networks_give_the_whole_network_s_answers(
    network: Network, n: int
) -> None:
    assert_same(network, tensor_shards(network, n), {"x": normal((2, 5, 4, 3)).astype("f4")})


def test_an_embedding_is_split_by_columns() -> None:
    inputs = [{"name": "ids", "dtype": "int32", "shape": [-1]}]
    layers = [
        {"name": "e", "op": "embedding", "vocabulary": 9, "units": 6},
        {"name": "y", "op": "dense", "units": 3},
    ]
    network = Network.from_spec({"inputs": inputs, "layers": layers, "outputs": ["y"]})
    plan = tensor_shards(network, 2)
    assert len(plan.segments) == 1
    ids = np.arange(8).reshape(2, 4)
    assert_same(network, plan, {"ids": ids})


@st.composite
def transformers(draw: st.DrawFn) -> Network:
    """Blocks of attention and a feed-forward part, each added to what went in."""
    layers: list[Option] = []
    stream = "x"
    for i in range(draw(st.integers(1, 2))):
        heads, given_ = draw(st.sampled_from((1, 2, 3, 4, 6))), draw(st.booleans())
        attention: Option = {"name": f"a{i}", "op": "attention", "heads": heads}
        attention |= {"causal": draw(st.booleans()), "qkv_bias": draw(st.booleans())}
        attention["out_bias"] = draw(st.booleans())
        if given_ or 12 % heads:
            attention["head_size"] = draw(st.integers(1, 5))
        layers += [
            {"name": f"n{i}", "op": "layer_norm", "inputs": [stream]},
            attention,
            {"name": f"s{i}", "op": "add", "inputs": [stream, f"a{i}"]},
            {"name": f"m{i}", "op": "layer_norm"},
            {"name": f"u{i}", "op": "dense", "units": draw(st.integers(3, 16))},
            {"name": f"g{i}", "op": "gelu"},
            {"name": f"d{i}", "op": "dense", "units": 12},
            {"name": f"t{i}", "op": "add", "inputs": [f"s{i}", f"d{i}"]},
        ]
        stream = f"t{i}"
    return Network.from_spec(spec(layers, [stream], (draw(st.sampled_from((5, -1))), 12)))


@settings(max_examples=60, deadline=None)
@given(transformers(), st.integers(1, 4))
def test_shards_of_transformers_give_the_whole_network_s_answers(network: Network, n: int) -> None:
    assert_same(network, tensor_shards(network, n), {"x": normal((3, 5, 12)).astype(np.float32)})


def test_attention_is_split_by_heads_with_one_sum_and_its_weights_lie_on_one_shard_each() -> None:
    layer: Option = {"name": "a", "op": "attention", "heads": 5, "head_size": 3}
    network = Network.from_spec(spec([layer], ["a"], (4, 6)))
    plan, params = tensor_shards(network, 2), network.init(1)
    assert [[(r.source, r.reduce) for r in s.reductions] for s in plan.segments] == [[("a", "sum")]]
    first, second = (share(shard, params) for shard in plan.shards)
    assert first["a.qkv_weight"].shape == (6, 3 * 2 * 3)
    assert second["a.qkv_weight"].shape == (6, 3 * 3 * 3)
    whole = params["a.qkv_weight"].reshape(6, 3, 5, 3)
    np.testing.assert_array_equal(first["a.qkv_weight"].reshape(6, 3, 2, 3), whole[:, :, :2])
    np.testing.assert_array_equal(second["a.qkv_weight"].reshape(6, 3, 3, 3), whole[:, :, 2:])
    rows = np.concatenate([first["a.out_weight"], second["a.out_weight"]])
    np.testing.assert_array_equal(rows, params["a.out_weight"])
    assert "a.out_bias" in first
    assert "a.out_bias" not in second
    with pytest.raises(GraphError, match=r"attention layer of 6 or more units \(or heads\)"):
        tensor_shards(network, 6)


@given(st.integers(0, 2), st.integers(1, 4), st.integers(1, 5), st.data())
def test_slices_of_blocks_are_what_several_parameters_side_by_side_would_give(
    axis: int, blocks: int, size: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, size - 1))
    cut = Slice(axis, start, data.draw(st.integers(start + 1, size)), blocks)
    shape = [2, 3, 1]
    shape[axis] = size
    parts = [normal(tuple(shape), seed) for seed in range(blocks)]
    whole = np.concatenate(parts, axis)
    assert cut.lies_within(whole.shape)
    found = cut.cut(whole)
    assert found.shape == cut.shape(whole.shape)
    each = [np.take(part, range(cut.start, cut.stop), axis) for part in parts]
    np.testing.assert_array_equal(found, np.concatenate(each, axis))
    beyond = (
        Slice(3, 0, 1),
        Slice(axis, 0, size + 1, blocks),
        Slice(axis, 1, 1),
        Slice(0, 0, 1, 0),
    )
    assert not any(other.lies_within(whole.shape) for other in beyond)
    assert blocks * size == 7 or not Slice(axis, 0, 1, 7).lies_within(whole.shape)


def deep(layers: int, units: int) -> Network:
    made: list[Option] = []
    for i in range(layers):
        made.append({"name": f"d{i}", "op": "dense", "units": units})
        made.append({"name": f"r{i}", "op": "relu"})
    return Network.from_spec(spec(made, [f"r{layers - 1}"], (units,)))


def test_dense_layers_go_in_pairs_with_one_sum_each_and_the_end_runs_on_one_shard() -> None:
    plan = tensor_shards(deep(4, 8), 2)
    reduced = [[(r.source, r.reduce) for r in s.reductions] for s in plan.segments]
    assert reduced == [[("d1", "sum")], [("d3", "sum")], [("r3", "first")]]
    assert [[step.shard for step in s.steps] for s in plan.segments] == [[0, 1], [0, 1], [0]]
    whole = deep(4, 8).parameter_count * BYTES_PER_PARAMETER
    biases = 2 * 8 * BYTES_PER_PARAMETER  # of the layers split by rows: on the first alone
    assert plan.shards[0].nbytes == (whole + biases) // 2
    assert plan.shards[1].nbytes == (whole - biases) // 2


def test_slices_cover_each_split_parameter_once() -> None:
    network = deep(2, 7)
    plan = tensor_shards(network, 3)
    for name, (shape, _) in network.parameter_specs().items():
        cuts = [s.part.slices[name] for s in plan.shards if name in s.part.slices]
        if name == "d1.bias":
            assert [name in s.parameters for s in plan.shards] == [True, False, False]
            continue
        size = shape[cuts[0].axis]
        assert [c for cut in cuts for c in range(cut.start, cut.stop)] == list(range(size))


def test_small_layers_begin_no_split() -> None:
    network = residual()
    with pytest.raises(GraphError, match="no layer can be split over 2 shards"):
        tensor_shards(network, 2, smallest=1 << 20)
    weights = 4 * (4 * 4 + 4)
    plan = tensor_shards(network, 2, smallest=weights + 1)
    assert "shared.weight" not in plan.shards[0].part.slices
    assert "scores.weight" in plan.shards[0].part.slices
    assert_same(network, plan, {"x": normal((2, 4)).astype(np.float32)})


def test_integers_and_texts_go_through() -> None:
    network = classifier()
    params, inputs = network.init(2), {"image": images(5)}
    found = run(tensor_shards(network, 2), params, inputs)
    assert found["label"].tolist() == network.predict(params, inputs)["label"].tolist()


def test_names_made_for_reduced_values_meet_no_layer_s() -> None:
    layers: list[Option] = [
        {"name": "~0", "op": "dense", "units": 4},
        {"name": "~~1", "op": "softmax"},
        {"name": "~1", "op": "dense", "units": 4},
    ]
    network = Network.from_spec(spec(layers, ["~1", "~~1"]))
    assert_same(network, tensor_shards(network, 2), {"x": normal((2, 4)).astype(np.float32)})


def test_what_cannot_be_split_is_refused_with_what_can_be_done() -> None:
    plain = Network.from_spec(spec([{"name": "a", "op": "relu"}], ["a"]))
    with pytest.raises(GraphError, match="split it as a pipeline, or replicate it"):
        tensor_shards(plain, 2)
    with pytest.raises(InvalidError, match="one shard or more, got 0"):
        tensor_shards(plain, 0)
    with pytest.raises(GraphError, match="needs 71 reductions"):
        tensor_shards(deep(140, 4), 2)


def test_a_shard_s_part_survives_the_line() -> None:
    for shard in tensor_shards(convolutions(), 2).shards:
        assert Part.from_data(shard.part.to_data()) == shard.part


@pytest.mark.parametrize("how", ["sum", "concat", "first"])
def test_reducing_writes_to_no_piece(how: Any) -> None:
    pieces = [normal((2, 3), seed) for seed in range(3)]
    for piece in pieces:
        piece.setflags(write=False)
    whole = reduce_values(how, pieces)
    expected = {"sum": sum(pieces), "concat": np.hstack(pieces), "first": pieces[0]}[how]
    np.testing.assert_allclose(whole, expected)
    assert Reduction("a", how, "b").reduce == how
