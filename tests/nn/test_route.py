"""Predictions take a shorter way than passes that keep, to the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.errors import GraphError
from aiaas_async.nn import output, route
from aiaas_async.nn.folding import folded, folded_count
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from aiaas_async.nn.route import route_to
from tests.nn.graphs import Option, classifier, images, normal, single, spec

WINDOWED = ("conv2d", "depthwise_conv2d")
OPS = (*WINDOWED, "dense", "relu", "relu6", "batch_norm", "add", "tanh")
PADDINGS = ("same", "valid", [[0, 1], [1, 0]])


@st.composite
def image_networks(draw: st.DrawFn) -> Network:
    """Any wiring of layers on images of 3 channels, any of which may be an output."""
    sizes: dict[str, tuple[int, int]] = {"x": (9, 8)}
    layers: list[Option] = []
    for i in range(draw(st.integers(1, 8))):
        op, name = draw(st.sampled_from(OPS)), f"l{i}"
        source = draw(st.sampled_from(sorted(sizes)))
        layer: Option = {"name": name, "op": op, "inputs": [source]}
        if op == "add":
            same = [other for other in sizes if sizes[other] == sizes[source]]
            layer["inputs"].append(draw(st.sampled_from(same)))
        if op in WINDOWED:
            layer["kernel"] = [draw(st.integers(2, 3)), draw(st.integers(1, 3))]
            layer["padding"] = draw(st.sampled_from(PADDINGS[: 2 if 1 in layer["kernel"] else 3]))
            layer["stride"] = draw(st.sampled_from([[1, 1], [2, 1], [1, 2], [2, 2]]))
            layer["use_bias"] = draw(st.booleans())
            layer |= {"filters": 3} if op == "conv2d" else {}
        if op == "dense":
            layer |= {"units": 3, "use_bias": draw(st.booleans())}
        layers.append(layer)
        try:
            made = Network.from_spec(spec(layers, [name], (9, 8, 3)))
        except GraphError:  # the kernel does not fit any more
            layers.pop()
            continue
        shape = made.outputs[0].shape
        assert shape is not None
        sizes[name] = (shape[0], shape[1])
    names = [layer["name"] for layer in layers] or ["only"]
    layers = layers or [{"name": "only", "op": "relu"}]
    outputs = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    return Network.from_spec(spec(layers, outputs, (9, 8, 3)))


def drawn(network: Network) -> dict[str, Array]:
    """Parameters, statistics too, that nobody may write to."""
    found = {}
    for i, (name, (shape, _)) in enumerate(network.parameter_specs().items()):
        values = normal(shape, i)
        found[name] = np.abs(values) + 0.5 if name.endswith("running_var") else values
        found[name].setflags(write=False)
    return found


@given(image_networks(), st.integers(0, 4), st.sampled_from([1, 4000, 10**9]))
@settings(deadline=None)
def test_images_are_predicted_as_a_pass_that_keeps_computes_them(
    network: Network, n: int, group_bytes: int
) -> None:
    params, x = drawn(network), normal((n, 9, 8, 3))
    x.setflags(write=False)
    expected, _ = network.forward(params, {"x": x})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(route, "GROUP_BYTES", group_bytes)
        patch.setattr(output, "PART_BYTES", 300)
        fresh = Network.from_spec(network.to_spec())
        for each, given_params in ((fresh, params), folded(fresh, params)):
            found = each.predict(given_params, {"x": x})
            for name in network.graph.outputs:
                np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-9)


def test_activations_and_borders_are_made_by_the_convolution_before_them() -> None:
    kernel: Option = {"kernel": [3, 3]}
    layers: list[Option] = [
        {"name": "a", "op": "conv2d", "filters": 3, "kernel": [1, 1]},
        {"name": "active", "op": "relu6"},
        {"name": "b", "op": "depthwise_conv2d", **kernel},
        {"name": "read_twice", "op": "relu"},
        {"name": "c", "op": "conv2d", "filters": 3, **kernel},
        {"name": "sum", "op": "add", "inputs": ["c", "read_twice"]},
    ]
    network = Network.from_spec(spec(layers, ["sum"], (9, 8, 3)))
    steps = route_to(network.graph, ("sum",)).steps
    assert [(step.node.name, step.name) for step in steps] == [
        ("a", "active"), ("b", "read_twice"), ("c", "c"), ("sum", "sum"),
    ]  # fmt: skip
    assert [step.framed for step in steps] == [False, True, False, False]
    assert [step.own for step in steps] == [False, True, False, True]
    assert [set(s.spent) for s in steps] == [{"x"}, {"active"}, set(), {"c", "read_twice"}]


def test_a_dense_layer_applies_the_activation_after_it_and_leaves_no_border() -> None:
    layers: list[Option] = [
        {"name": "a", "op": "dense", "units": 3},
        {"name": "active", "op": "relu"},
        {"name": "b", "op": "conv2d", "filters": 3, "kernel": [3, 3]},
    ]
    network = Network.from_spec(spec(layers, ["b"], (9, 8, 3)))
    steps = route_to(network.graph, ("b",)).steps
    assert [(step.name, step.framed) for step in steps] == [("active", False), ("b", False)]
    params, x = drawn(network), {"x": normal((2, 9, 8, 3))}
    kept, _ = network.forward(params, x)
    np.testing.assert_allclose(network.predict(params, x)["b"], kept["b"], rtol=1e-9, atol=1e-9)


def test_large_images_go_through_one_at_a_time_and_vectors_all_at_once() -> None:
    large = single("conv2d", (300, 300, 3), filters=4, kernel=[1, 1])
    assert route_to(large.graph, ("layer",)).group == 1
    assert route_to(classifier().graph, ("logits",)).group == 2**20 // (4 * 8 * 8 * 4)
    assert route_to(single("dense", (4,), units=2).graph, ("layer",)).group is None


def test_batch_norm_folds_into_the_layer_before_it_and_keeps_its_name() -> None:
    network = classifier()
    params = network.init(1)
    params["norm.running_mean"] = np.array([1, -2, 3, 0], np.float32)
    params["norm.running_var"] = np.array([1, 4, 0.5, 2], np.float32)
    smaller, made = folded(network, params)
    assert [node.name for node in smaller.graph.nodes][:3] == ["scaled", "norm", "active"]
    assert made["logits.weight"] is params["logits.weight"]
    assert folded_count(network.graph) == made["norm.weight"].size + made["norm.bias"].size
    expected = network.predict(params, {"image": images(5)})["logits"]
    found = smaller.predict(made, {"image": images(5)})["logits"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_batch_norm_stays_where_what_it_reads_is_read_by_others_too() -> None:
    layers: list[Option] = [
        {"name": "a", "op": "dense", "units": 4},
        {"name": "norm", "op": "batch_norm"},
        {"name": "sum", "op": "add", "inputs": ["a", "norm"]},
        {"name": "bare", "op": "batch_norm"},
    ]
    network = Network.from_spec(spec(layers, ["bare"]))
    assert folded(network, network.init(0))[0] is network
    assert folded_count(network.graph) == 0
