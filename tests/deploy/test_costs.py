"""Costs are counted from shapes, and measured times take their place."""

from __future__ import annotations

from aiaas_async.deploy.costs import estimate_costs, hop_seconds
from aiaas_async.nn.network import Network
from tests.nn.graphs import Option, residual, spec


def test_multiply_adds_and_bytes_follow_from_the_shapes() -> None:
    layers: list[Option] = [
        {"name": "conv", "op": "conv2d", "filters": 8, "kernel": [3, 3], "stride": [2, 2]},
        {"name": "deep", "op": "depthwise_conv2d", "kernel": [3, 3], "use_bias": False},
        {"name": "norm", "op": "batch_norm"},
        {"name": "flat", "op": "flatten"},
        {"name": "y", "op": "dense", "units": 10},
    ]
    network = Network.from_spec(spec(layers, ["y"], (12, 12, 3)))
    found = {cost.layer: cost for cost in estimate_costs(network)}
    assert {name: cost.macs for name, cost in found.items()} == {
        "conv": 36 * 9 * 3 * 8,
        "deep": 36 * 9 * 8,
        "norm": 0,
        "flat": 0,
        "y": 36 * 8 * 10,
    }
    assert found["conv"].nbytes == 4 * (9 * 3 * 8 + 8)
    assert found["norm"].nbytes == 4 * 4 * 8
    assert found["conv"].value_bytes == 4 * 36 * 8
    assert found["y"].op == "dense"


def test_a_larger_batch_takes_longer_but_reads_the_weights_once() -> None:
    network = residual()
    one, many = (estimate_costs(network, batch)[0].seconds for batch in (1, 1000))
    assert one < many < 1000 * one


def test_layers_that_nothing_depends_on_cost_nothing() -> None:
    bare = Network.from_spec(residual().to_spec() | {"outputs": ["scores"]})
    assert "aside" not in {cost.layer for cost in estimate_costs(bare)}


def test_measured_times_take_the_place_of_estimates() -> None:
    found = {cost.layer: cost.seconds for cost in estimate_costs(residual(), 32, {"left": 5.0})}
    assert found["left"] == 5.0
    assert 0 < found["shared"] < 1


def test_attention_costs_its_products_and_the_square_of_its_length() -> None:
    layers: list[Option] = [{"name": "look", "op": "attention", "heads": 2, "head_size": 5}]
    (found,) = estimate_costs(Network.from_spec(spec(layers, ["look"], (6, 8))))
    assert found.macs == 6 * (8 * 30 + 10 * 8) + 2 * 6 * 6 * 10
    assert found.nbytes == 4 * (8 * 30 + 30 + 10 * 8 + 8)


def test_moving_bytes_costs_time() -> None:
    assert 0 < hop_seconds(0) < hop_seconds(1 << 20)
