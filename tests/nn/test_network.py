"""Passes over a network: what they agree on, and what they leave alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.errors import InputError
from aiaas_async.nn.gradcheck import network_error
from aiaas_async.nn.layer import Array, Mode
from aiaas_async.nn.network import Network
from aiaas_async.nn.processing import Scale
from tests.nn.graphs import Option, classifier, images, normal, residual, single, spec

SHAPE_KEEPING = (
    "relu", "relu6", "gelu", "silu", "tanh", "sigmoid", "softmax", "dropout", "scale",
    "batch_norm", "layer_norm", "add", "flatten", "dense",
)  # fmt: skip


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Any wiring of layers that keep the shape [4], any of which may be an output."""
    names, layers = ["x"], []
    for i in range(draw(st.integers(1, 8))):
        op = draw(st.sampled_from(SHAPE_KEEPING))
        arity = draw(st.integers(2, 3)) if op == "add" else 1
        sources = draw(st.lists(st.sampled_from(names), min_size=arity, max_size=arity))
        layer: Option = {"name": f"l{i}", "op": op, "inputs": sources}
        layers.append(layer | ({"units": 4} if op == "dense" else {}))
        names.append(f"l{i}")
    outputs = draw(st.lists(st.sampled_from(names[1:]), min_size=1, max_size=3, unique=True))
    return Network.from_spec(spec(layers, outputs))


def frozen(arrays: dict[str, Array]) -> dict[str, Array]:
    """The arrays, so that writing to one raises."""
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


@given(networks(), st.integers(0, 5))
def test_predict_and_forward_agree_and_write_to_nothing_given(network: Network, n: int) -> None:
    params = frozen(network.init(1))
    inputs = frozen({"x": normal((n, 4)).astype(np.float32)})
    predicted = network.predict(params, inputs)
    found, _ = network.forward(params, inputs)
    for name in network.graph.outputs:
        np.testing.assert_array_equal(predicted[name], found[name])
        assert found[name].shape == (n, 4)


@settings(derandomize=True)  # finite differences across a kink would fail, one run in a hundred
@given(networks(), st.booleans())
def test_gradients_are_right_in_any_wiring_and_write_to_nothing_given(
    network: Network, training: bool
) -> None:
    params = frozen(network.init(1, np.float64))
    inputs = frozen({"x": normal((3, 4))})
    rng = np.random.default_rng(0)
    found, cache = network.forward(params, inputs, training=training, rng=rng)
    before = {name: y.copy() for name, y in found.items()}
    douts = frozen({name: normal(y.shape, 9) for name, y in found.items()})
    first = network.backward(params, cache, douts, wrt_inputs=True, wrt_params=True)
    again = network.backward(params, cache, douts, wrt_inputs=True, wrt_params=True)
    for name, y in found.items():
        np.testing.assert_array_equal(y, before[name])
        assert network_error(network, dict(inputs), name, training=training) < 1e-5
    for ours, same in zip(first, again, strict=True):
        for name, array in ours.items():
            np.testing.assert_array_equal(array, same[name])


def test_a_view_of_an_input_is_not_written_to() -> None:
    layers: list[Option] = [{"name": "flat", "op": "flatten"}, {"name": "active", "op": "relu6"}]
    network, x = Network.from_spec(spec(layers, ["active"])), frozen({"x": normal((3, 4))})
    for found in (network.predict({}, x), network.forward({}, x)[0]):
        np.testing.assert_array_equal(found["active"], x["x"].clip(0, 6))


def test_an_output_the_backward_pass_reads_again_is_not_written_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def in_place(
        self: Scale, xs: Sequence[Array], ps: Sequence[Array], mode: Mode
    ) -> tuple[Array, None]:
        return np.multiply(xs[0], self.factor, out=xs[0] if mode.own else None), None

    monkeypatch.setattr(Scale, "forward", in_place)
    for op in ("tanh", "sigmoid", "softmax", "relu", "dense"):
        options: Option = {"units": 4} if op == "dense" else {}
        layers = [{"name": "a", "op": op, **options}, {"name": "b", "op": "scale", "factor": 3.0}]
        network = Network.from_spec(spec(layers, ["b"]))
        assert network_error(network, {"x": normal((3, 4))}, "b") < 1e-7


def test_a_gradient_finds_its_way_past_an_input_that_has_none() -> None:
    inputs = [
        {"name": "ids", "dtype": "int64", "shape": []},
        {"name": "x", "dtype": "float32", "shape": [4]},
    ]
    layers: list[Option] = [
        {"name": "rows", "op": "embedding", "vocabulary": 3, "units": 4},
        {"name": "sum", "op": "add", "inputs": ["rows", "x"]},
        {"name": "bent", "op": "tanh"},
    ]
    network = Network.from_spec({"inputs": inputs, "layers": layers, "outputs": ["bent"]})
    given = {"ids": np.array([2, 0, 2]), "x": normal((3, 4))}
    params = network.init(0, np.float64)
    _, cache = network.forward(params, given)
    douts = {"bent": np.ones((3, 4))}
    dinputs, _ = network.backward(params, cache, douts, wrt_inputs=True, wrt_params=False)
    assert set(dinputs) == {"x"}
    assert network_error(network, given, "bent") < 1e-7


def test_branches_that_share_a_layer_have_right_gradients() -> None:
    for output in ("scores", "aside", "sum", "left"):
        assert network_error(residual(), {"x": normal((5, 4))}, output) < 1e-7


def test_gradients_of_several_outputs_add_up() -> None:
    network, x = residual(), {"x": normal((5, 4))}
    params = network.init(0, np.float64)
    douts = {"scores": normal((5, 3), 1), "aside": normal((5, 2), 2)}
    _, cache = network.forward(params, x)

    def gradients(given: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        return network.backward(params, cache, given, wrt_inputs=True, wrt_params=True)

    parts = [gradients({name: dout}) for name, dout in douts.items()]
    for whole, one, other in zip(gradients(douts), *parts, strict=True):
        assert whole.keys() == one.keys() == other.keys()
        for name, array in whole.items():
            np.testing.assert_allclose(array, one[name] + other[name], atol=1e-12)


def test_a_parameter_no_output_depends_on_has_a_gradient_of_zeros() -> None:
    network, x = residual(), {"x": normal((2, 4))}
    params = network.init(0, np.float64)
    _, cache = network.forward(params, x, outputs=["scores"])
    douts = {"scores": np.ones((2, 3))}
    _, grads = network.backward(params, cache, douts, wrt_inputs=False, wrt_params=True)
    assert grads.keys() == params.keys()
    assert not grads["aside.weight"].any()
    assert grads["shared.weight"].any()


def test_only_the_gradients_asked_for_come_back() -> None:
    network, x = residual(), {"x": normal((2, 4))}
    params = network.init(0, np.float64)
    _, cache = network.forward(params, x)
    douts = {"scores": np.ones((2, 3))}
    dinputs, grads = network.backward(params, cache, douts, wrt_inputs=True, wrt_params=False)
    assert set(dinputs) == {"x"}
    assert not grads
    dinputs, grads = network.backward(params, cache, douts, wrt_inputs=False, wrt_params=True)
    assert not dinputs
    assert grads.keys() == params.keys()


def test_only_the_layers_an_output_needs_are_run() -> None:
    network = residual()
    params = network.init(0)
    del params["scores.weight"], params["aside.weight"]
    found = network.predict(params, {"x": normal((2, 4))}, outputs=["left", "sum", "left"])
    assert list(found) == ["left", "sum"]


def test_only_the_inputs_an_output_needs_are_asked_for() -> None:
    inputs = [{"name": n, "dtype": "float32", "shape": [4]} for n in ("a", "b")]
    layers = [{"name": f"of_{n}", "op": "relu", "inputs": [n]} for n in ("a", "b")]
    network = Network.from_spec({"inputs": inputs, "layers": layers, "outputs": ["of_a", "of_b"]})
    assert list(network.predict({}, {"a": normal((2, 4))}, outputs=["of_a"])) == ["of_a"]
    with pytest.raises(InputError, match=r"input 'b' is missing; given: \['a'\]"):
        network.predict({}, {"a": normal((2, 4))})


def test_each_item_is_computed_as_if_it_were_alone() -> None:
    network, given_images = classifier(), images(7)
    params = network.init(0)
    together = network.predict(params, {"image": given_images})
    for i in range(7):
        alone = network.predict(params, {"image": given_images[i : i + 1]})
        np.testing.assert_allclose(alone["logits"][0], together["logits"][i], atol=1e-6)
        assert alone["label"][0] == together["label"][i]


def test_a_network_is_computed_in_the_dtype_of_its_parameters() -> None:
    network, x = single("dense", (4,), units=2), normal((3, 4))
    for dtype in (np.float32, np.float64):
        assert network.predict(network.init(0, dtype), {"x": x})["layer"].dtype == dtype


def test_running_statistics_are_handed_out_and_have_no_gradient() -> None:
    network, given_images = classifier(), {"image": images(6)}
    params = network.init(0)
    rng = np.random.default_rng(0)
    _, cache = network.forward(params, given_images, training=True, rng=rng, outputs=["logits"])
    assert cache.updates.keys() == {"norm.running_mean", "norm.running_var"}
    douts = {"logits": np.ones((6, 3), np.float32)}
    _, grads = network.backward(params, cache, douts, wrt_inputs=False, wrt_params=True)
    assert grads.keys() == params.keys() - cache.updates.keys()
    _, cache = network.forward(params, given_images)
    assert cache.updates == {}


def test_dropout_keeps_its_share_and_the_mean() -> None:
    network = single("dropout", (1000,), rate=0.25)
    x = {"x": np.ones((50, 1000), np.float32)}
    found, _ = network.forward({}, x, training=True, rng=np.random.default_rng(0))
    y = found["layer"]
    assert set(np.unique(y).tolist()) == {0.0, float(np.float32(1) / np.float32(0.75))}
    assert abs(float((y == 0).mean()) - 0.25) < 0.01
    assert abs(float(y.mean()) - 1.0) < 0.01


def test_a_spec_written_out_makes_the_same_network() -> None:
    network = classifier()
    assert Network.from_spec(network.to_spec()).graph == network.graph


def test_a_network_says_its_parameters_and_outputs_before_anything_is_computed() -> None:
    network = classifier()
    specs = {name: (p.shape, str(p.dtype)) for name, p in network.init(0).items()}
    assert network.parameter_specs() == specs
    assert network.parameter_count == 40 + 4 * 4 + (4 * 4 * 4 * 3 + 3)
    said = [(o.name, o.dtype, o.shape) for o in network.outputs]
    assert said == [("label", "string", ()), ("logits", "float32", (3,))]
