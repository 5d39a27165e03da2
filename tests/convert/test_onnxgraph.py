"""An exported graph computes in onnxruntime what it computes here."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from aiaas_async.convert.onnxgraph import onnx_model
from aiaas_async.errors import GraphError
from aiaas_async.nn.network import Network
from tests.nn.graphs import Option, normal, single, spec


def test_every_layer_it_knows_computes_the_same() -> None:
    kernel: Option = {"kernel": [3, 3]}
    layers: list[Option] = [
        {"name": "pixels", "op": "normalise", "mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 0.5]},
        {"name": "a", "op": "conv2d", "filters": 4, **kernel, "stride": [2, 2], "use_bias": False},
        {"name": "a.norm", "op": "batch_norm"},
        {"name": "b", "op": "relu6"},
        {"name": "c", "op": "depthwise_conv2d", **kernel, "padding": [[1, 1], [2, 0]]},
        {"name": "d", "op": "relu"},
        {"name": "e", "op": "add", "inputs": ["b", "d"]},
        {"name": "f", "op": "conv2d", "filters": 5, **kernel, "padding": "valid"},
        {"name": "g", "op": "global_avg_pool"},
        {"name": "logits", "op": "dense", "units": 4},
        {"name": "p", "op": "softmax"},
        {"name": "class", "op": "argmax"},
    ]
    network = Network.from_spec(spec(layers, ["class", "p", "logits"], (9, 8, 3)))
    params = network.init(2)
    params["a.norm.running_mean"] = normal((4,)).astype(np.float32)
    params["a.norm.running_var"] = np.abs(normal((4,), 8)).astype(np.float32) + 0.5
    x = {"x": 3 * normal((5, 9, 8, 3)).astype(np.float32)}
    expected = network.predict(params, x)
    session = onnxruntime.InferenceSession(onnx_model(network, params))
    found = dict(zip(expected, session.run(list(expected), x), strict=True))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-5)


def test_a_layer_it_does_not_know_is_named() -> None:
    with pytest.raises(GraphError, match=r"layer 'layer' \(gelu\) has no ONNX form here"):
        onnx_model(single("gelu", (4,)), {})
