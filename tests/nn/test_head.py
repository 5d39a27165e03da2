"""Where a network is trained, and with which loss."""

from __future__ import annotations

import pytest

from aiaas_async.errors import GraphError
from aiaas_async.nn.head import training_head
from aiaas_async.nn.network import Network
from tests.nn.graphs import Option, classifier, single, spec


def ending_in(*ops: str, outputs: tuple[str, ...]) -> Network:
    """A dense layer "scores", then `ops` in a row, each named as its op."""
    layers: list[Option] = [{"name": "scores", "op": "dense", "units": 3}]
    layers += [{"name": op, "op": op} for op in ops]
    return Network.from_spec(spec(layers, list(outputs)))


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (classifier(), ("logits", "cross_entropy")),
        (ending_in(outputs=("scores",)), ("scores", "mse")),
        (ending_in("argmax", outputs=("argmax",)), ("scores", "cross_entropy")),
        (ending_in("softmax", outputs=("softmax",)), ("scores", "cross_entropy")),
        (ending_in("softmax", "argmax", outputs=("argmax",)), ("scores", "cross_entropy")),
        (ending_in("softmax", "argmax", outputs=("argmax", "scores")), ("scores", "cross_entropy")),
        (ending_in("sigmoid", outputs=("sigmoid",)), ("scores", "binary_cross_entropy")),
        (ending_in("tanh", outputs=("tanh",)), ("tanh", "mse")),
        (ending_in("relu", "softmax", outputs=("softmax",)), ("relu", "cross_entropy")),
    ],
)
def test_the_head_is_what_is_decided_upon(network: Network, expected: tuple[str, str]) -> None:
    assert training_head(network) == expected


def test_of_several_plain_outputs_the_last_is_trained() -> None:
    assert training_head(ending_in("tanh", outputs=("tanh", "scores"))) == ("scores", "mse")


def test_a_plain_output_comes_before_one_that_is_decided_upon() -> None:
    network = ending_in("tanh", "softmax", outputs=("scores", "softmax"))
    assert training_head(network) == ("scores", "mse")


@pytest.mark.parametrize(
    "network", [single("argmax", (4,)), single("softmax", (4,)), single("flatten", (4,), "uint8")]
)
def test_a_network_no_gradient_can_reach_is_refused(network: Network) -> None:
    with pytest.raises(GraphError, match="no output can be trained"):
        training_head(network)
