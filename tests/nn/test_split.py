"""A pipeline of stages computes the whole network's bits, and its cuts are the best there are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import InvalidError
from aiaas_async.messages import TensorSpec
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from aiaas_async.nn.split import (
    Costs,
    Runs,
    boundary_bytes,
    live_layers,
    spec_bytes,
    stage,
    stages,
)
from aiaas_async.nn.submodel import BYTES_PER_PARAMETER, Part, Submodel, blank_inputs, value_specs
from tests.nn.graphs import Option, classifier, cut, even, images, normal, residual, spec
from tests.nn.test_network import networks


def run(parts: Sequence[Submodel], params: dict[str, Array], values: dict[str, Array]) -> Any:
    """The values after all stages have run, each on its own inputs and parameters alone."""
    for each in parts:
        own = {name: params[name] for name in each.parameters}
        values = values | each.network.predict(own, {n: values[n] for n in each.inputs})
    return values


@given(networks(), st.data(), st.integers(0, 5))
def test_stages_in_a_row_give_the_whole_network_s_bits(
    network: Network, data: st.DataObject, rows: int
) -> None:
    count = len(live_layers(network))
    parts = cut(network, even(network), data.draw(st.integers(1, count)))
    params, inputs = network.init(1), {"x": normal((rows, 4)).astype(np.float32)}
    found = run(parts, params, inputs)
    for name, expected in network.predict(params, inputs).items():
        np.testing.assert_array_equal(found[name], expected)


@pytest.mark.parametrize("n", range(1, 10))
def test_images_go_through_any_number_of_stages_to_the_same_bits(n: int) -> None:
    network, inputs = classifier(), {"image": images(5)}
    params = network.init(2)
    found = run(cut(network, even(network), n), params, inputs)
    expected = network.predict(params, inputs)
    assert found["label"].tolist() == expected["label"].tolist()
    np.testing.assert_array_equal(found["logits"], expected["logits"])


@given(networks(), st.data())
def test_a_cut_s_slowest_stage_is_as_fast_as_that_of_any_other_cut(
    network: Network, data: st.DataObject
) -> None:
    live = [node.name for node in live_layers(network)]
    times = data.draw(st.lists(st.integers(0, 9), min_size=len(live), max_size=len(live)))
    n = data.draw(st.integers(1, len(live)))
    runs = Runs.of(network, Costs(dict(zip(live, times, strict=True))))
    cuts = runs.cuts(n)
    assert cuts is not None
    slowest = max(sum(times[a:b]) for a, b in itertools.pairwise(cuts))
    others = itertools.combinations(range(1, len(live)), n - 1)
    ways = [(0, *inner, len(live)) for inner in others]
    best = min(max(sum(times[a:b]) for a, b in itertools.pairwise(way)) for way in ways)
    assert best <= slowest <= 1.05 * best
    assert runs.slowest(cuts) == slowest
    assert len(cuts) == n + 1
    assert cuts == sorted(set(cuts))


@given(networks(), st.data())
def test_what_a_cut_counts_as_moved_is_what_the_stages_take_and_give(
    network: Network, data: st.DataObject
) -> None:
    live = live_layers(network)
    costs = Costs(dict.fromkeys((node.name for node in network.graph.nodes), 0.0), 1.0)
    n = data.draw(st.integers(1, len(live)))
    parts = cut(network, costs, n)
    ways = [(0, *inner, len(live)) for inner in itertools.combinations(range(1, len(live)), n - 1)]
    best = min(
        max(sum(boundary_bytes(stage(network, a, b))) for a, b in itertools.pairwise(way))
        for way in ways
    )
    worst = max(sum(boundary_bytes(each)) for each in parts)
    assert best <= worst <= 1.05 * best


def test_each_layer_and_each_parameter_is_in_one_stage_and_the_unread_in_none() -> None:
    network = residual()
    bare = Network.from_spec(network.to_spec() | {"outputs": ["scores"]})
    parts = cut(bare, even(bare), 3)
    placed = [name for each in parts for name in each.layers]
    assert placed == ["shared", "left", "right", "sum", "both", "scores"]
    parameters = [name for each in parts for name in each.parameters]
    assert parameters == ["shared.weight", "shared.bias", "scores.weight", "scores.bias"]
    assert sum(each.nbytes for each in parts) == BYTES_PER_PARAMETER * (4 * 4 + 4 + 8 * 3 + 3)


def test_a_value_that_skips_a_stage_is_not_among_its_inputs() -> None:
    layers: list[Option] = [
        {"name": "a", "op": "dense", "units": 4},
        {"name": "b", "op": "tanh"},
        {"name": "c", "op": "add", "inputs": ["a", "b"]},
    ]
    parts = cut(*_with_costs(layers, ["c"]), 3)
    assert [each.inputs for each in parts] == [("x",), ("a",), ("a", "b")]
    assert [each.outputs for each in parts] == [("a",), ("b",), ("c",)]


def _with_costs(layers: list[Option], outputs: list[str]) -> tuple[Network, Costs]:
    network = Network.from_spec(spec(layers, outputs))
    return network, even(network)


def chain(widths: list[int]) -> Network:
    layers: list[Option] = [
        {"name": f"d{i}", "op": "dense", "units": width} for i, width in enumerate(widths)
    ]
    return Network.from_spec(spec(layers, [f"d{len(widths) - 1}"], (8,)))


def test_budgets_decide_where_time_alone_would_not() -> None:
    network = chain([8] * 6)
    one = BYTES_PER_PARAMETER * 72
    runs = Runs.of(network, even(network))
    cuts = runs.cuts(2, [4 * one, 2 * one])
    assert cuts is not None
    assert [each.nbytes for each in stages(network, cuts)] == [4 * one, 2 * one]
    assert runs.cuts(2, [3 * one, 2 * one]) is None


def test_of_cuts_equally_fast_the_one_with_the_smallest_largest_stage_is_taken() -> None:
    network = chain([8, 64, 8, 8])  # all of the time in the first and the last
    costs = Costs({"d0": 10.0, "d1": 0.1, "d2": 0.1, "d3": 10.0})
    sizes = [each.nbytes for each in cut(network, costs, 2)]
    assert max(sizes) < 0.7 * sum(sizes)


def test_more_stages_than_layers_are_refused_with_both_numbers() -> None:
    with pytest.raises(InvalidError, match="5 stages were asked for; the graph has 4"):
        cut(*_with_costs([{"name": f"l{i}", "op": "relu"} for i in range(4)], ["l3"]), 5)


def test_a_thousand_layers_are_cut_evenly() -> None:
    layers: list[Option] = [{"name": f"l{i}", "op": "relu"} for i in range(1000)]
    parts = cut(*_with_costs(layers, ["l999"]), 4)
    assert [len(each.layers) for each in parts] == [250] * 4


def test_boundary_values_are_declared_as_what_they_hold() -> None:
    layers: list[Option] = [
        {"name": "moved", "op": "flatten"},
        {"name": "scaled", "op": "scale"},
        {"name": "hidden", "op": "dense", "units": 4},
        {"name": "best", "op": "argmax"},
        {"name": "label", "op": "argmax", "inputs": ["hidden"], "labels": list("abcd")},
    ]
    inputs = [
        {"name": "x", "dtype": "uint8", "shape": [2, 2]},
        {"name": "f", "dtype": "float64", "shape": [-1]},
    ]
    made = {"inputs": inputs, "layers": layers, "outputs": ["best", "label"]}
    found = value_specs(Network.from_spec(made))
    dtypes = {name: each.dtype for name, each in found.items()}
    assert dtypes == {
        "x": "uint8",
        "f": "float32",
        "moved": "uint8",
        "scaled": "float32",
        "hidden": "float32",
        "best": "int64",
        "label": "string",
    }
    assert spec_bytes(found["hidden"]) == 16
    assert spec_bytes(found["moved"]) == 4
    assert spec_bytes(TensorSpec("y", "float64", (-1, 3))) == 24


def test_blank_inputs_fit_any_network() -> None:
    made = classifier()
    assert made.predict(made.init(1), blank_inputs(made.inputs, 2))["label"].shape == (2,)
    inputs = [{"name": "ids", "dtype": "int64", "shape": [-1]}]
    layers = [{"name": "e", "op": "embedding", "vocabulary": 3, "units": 2}]
    table = Network.from_spec({"inputs": inputs, "layers": layers, "outputs": ["e"]})
    assert table.predict(table.init(1), blank_inputs(table.inputs, 4))["e"].shape == (4, 1, 2)


def test_a_part_survives_the_line_and_nonsense_is_refused() -> None:
    for each in cut(classifier(), even(classifier()), 3):
        assert Part.from_data(each.part.to_data()) == each.part
    with pytest.raises(InvalidError, match="a part of a model: Object contains unknown field"):
        Part.from_data({"graph": {}, "slice": {}})
