"""A network of which only some parameters are trained."""

from __future__ import annotations

import numpy as np
import pytest

from aiaas_async.errors import GraphError
from aiaas_async.nn.convolution import Conv2d
from aiaas_async.nn.network import Network
from tests.nn.graphs import Option, classifier, images, normal, residual, spec


def test_the_trained_parameters_have_the_gradients_of_the_whole_network() -> None:
    network, x = residual(), {"x": normal((5, 4))}
    params = network.init(0, np.float64)
    douts = {"scores": normal((5, 3), 1), "aside": normal((5, 2), 2)}
    _, cache = network.forward(params, x)
    _, whole = network.backward(params, cache, douts, wrt_inputs=False, wrt_params=True)
    for patterns in (["scores"], ["*.weight"], ["shared.bias", "aside"], ["s*"]):
        part = network.training_only(patterns)
        found, cache = part.forward(params, x, training=True)
        _, grads = part.backward(params, cache, douts, wrt_inputs=False, wrt_params=True)
        assert set(grads) == set(part.trained_parameters)
        for name, grad in grads.items():
            np.testing.assert_allclose(grad, whole[name], atol=1e-12)
        assert set(found) == {"scores", "aside"}


def test_patterns_name_layers_or_parameters() -> None:
    network = classifier()
    assert network.training_only(["logits"]).trained_parameters == ["logits.weight", "logits.bias"]
    assert network.training_only(["*.bias"]).trained_parameters == [
        "conv.bias", "norm.bias", "logits.bias",
    ]  # fmt: skip
    assert network.training_only(["conv", "norm.w*"]).trained_parameters == [
        "conv.weight", "conv.bias", "norm.weight",
    ]  # fmt: skip


@pytest.mark.parametrize("pattern", ["logit", "norm.running_mean", "flat"])
def test_a_pattern_that_fits_nothing_is_refused_with_what_is_near(pattern: str) -> None:
    with pytest.raises(
        GraphError, match=f"no trainable parameter fits '{pattern}'.*(did|possible)"
    ):
        classifier().training_only([pattern])


def test_what_lies_before_the_first_trained_layer_predicts_and_goes_no_step_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object) -> None:
        pytest.fail("a gradient was computed that nobody needs")

    monkeypatch.setattr(Conv2d, "backward", never)
    network, x = classifier().training_only(["logits"]), {"image": images(6)}
    params = network.init(0)
    _, cache = network.forward(params, x, training=True, outputs=["logits"])
    assert cache.updates == {}
    assert set(cache.saved) == {"logits"}
    douts = {"logits": np.ones((6, 3), np.float32)}
    _, grads = network.backward(params, cache, douts, wrt_inputs=False, wrt_params=True)
    features = network.predict(params, x, ["kept"])["kept"]  # dropout, too, is before it
    np.testing.assert_allclose(grads["logits.weight"], features.T @ douts["logits"], rtol=1e-5)


def test_a_frozen_batch_norm_behind_a_trained_layer_uses_its_statistics() -> None:
    layers: list[Option] = [
        {"name": "first", "op": "dense", "units": 4},
        {"name": "norm", "op": "batch_norm"},
        {"name": "last", "op": "dense", "units": 2},
    ]
    network = Network.from_spec(spec(layers, ["last"]))
    params, x = network.init(3), {"x": normal((5, 4)).astype(np.float32)}
    predicted = network.predict(params, x)["last"]
    found, cache = network.training_only(["first"]).forward(params, x, training=True)
    np.testing.assert_allclose(found["last"], predicted, rtol=1e-6)
    assert not cache.updates
    _, cache = network.training_only(["first", "norm.bias"]).forward(params, x, training=True)
    assert cache.updates
