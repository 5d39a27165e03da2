"""Plans keep within each node's free bytes, and refuse what cannot fit with what would."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.deploy.plan import ModelFacts, Plan, PlanRequest, plan
from aiaas_async.errors import GraphError, InvalidError, MemoryBudgetError, UnplaceableError
from aiaas_async.nn.network import Network
from tests.nn.graphs import Option, spec

LAYER = 4 * (64 * 64 + 64)  # bytes of one dense layer of `deep`


def deep(layers: int = 4) -> Network:
    made: list[Option] = []
    for i in range(layers):
        made.append({"name": f"d{i}", "op": "dense", "units": 64})
        made.append({"name": f"r{i}", "op": "relu"})
    return Network.from_spec(spec(made, [f"r{layers - 1}"], (64,)))


def facts(layers: int = 4, measured: dict[str, float] | None = None) -> ModelFacts:
    return ModelFacts(layers * LAYER, deep(layers), measured)


def asked(split: Any = "pipeline", nodes: int | None = 2) -> PlanRequest:
    return PlanRequest(mode="distributed", split=split, nodes=nodes)


def placed(found: Plan) -> dict[str, int]:
    return {each.node: each.nbytes for each in found.nodes}


def test_a_whole_version_goes_where_most_is_free() -> None:
    found = plan(PlanRequest(), facts(), {"a": 5 * LAYER, "b": 9 * LAYER, "c": LAYER})
    assert placed(found) == {"b": 4 * LAYER}
    assert found.nodes[0].submodel is None


def test_replicas_are_on_different_nodes_and_each_must_fit() -> None:
    nodes = {"a": 5 * LAYER, "b": 9 * LAYER, "c": LAYER}
    one, two = (plan(PlanRequest(replicas=n), facts(), nodes) for n in (1, 2))
    assert placed(two) == {"b": 4 * LAYER, "a": 4 * LAYER}
    assert one.items_per_s is not None
    assert two.items_per_s == 2 * one.items_per_s
    with pytest.raises(MemoryBudgetError) as caught:
        plan(PlanRequest(replicas=3), facts(), nodes)
    assert caught.value.details["needed"] == [4 * LAYER] * 3
    assert caught.value.details["free"] == nodes


def test_a_model_larger_than_any_node_fits_when_split() -> None:
    nodes = {"a": 2 * LAYER + 9, "b": 2 * LAYER + 9}
    with pytest.raises(MemoryBudgetError) as caught:
        plan(PlanRequest(), facts(), nodes)
    instead = caught.value.details["instead"]
    assert instead == {"mode": "distributed", "split": "pipeline", "nodes": 2}
    assert "it would fit with mode distributed, split pipeline, nodes 2" in caught.value.message
    found = plan(msgspec.convert(instead, PlanRequest), facts(), nodes)
    assert placed(found) == {"a": 2 * LAYER, "b": 2 * LAYER}
    shards = plan(asked("tensor"), facts(), {"a": 3 * LAYER, "b": 3 * LAYER})
    assert sum(placed(shards).values()) == 4 * LAYER


def test_what_fits_nowhere_is_refused_with_each_node_s_numbers() -> None:
    nodes = {"a": LAYER, "b": LAYER // 2}
    for split in ("pipeline", "tensor"):
        with pytest.raises(MemoryBudgetError) as caught:
            plan(asked(split), facts(), nodes)
        assert f"free bytes: a {LAYER}, b {LAYER // 2}; use more nodes" in caught.value.message
        assert caught.value.details["instead"] is None
        assert len(caught.value.details["needed"]) == 2


@pytest.mark.parametrize("request_", [PlanRequest(), asked(), asked("tensor"), asked(nodes=None)])
def test_what_would_not_fit_empty_nodes_either_is_told_apart_from_what_may_fit_later(
    request_: PlanRequest,
) -> None:
    free = {"a": LAYER, "b": LAYER // 2}
    with pytest.raises(MemoryBudgetError) as caught:
        plan(request_, facts(), free, budgets={"a": 9 * LAYER, "b": 9 * LAYER})
    assert type(caught.value) is MemoryBudgetError
    assert "unload versions" in caught.value.message
    for budgets in (free, {"a": LAYER, "b": LAYER}):
        with pytest.raises(UnplaceableError) as never:
            plan(request_, facts(), free, budgets)
        assert "on empty nodes either: " in never.value.message
        assert never.value.message.endswith("; use more nodes, or raise node_memory_mb")
        assert f"free bytes: a {LAYER}, b {budgets['b']};" in never.value.message
        assert (never.value.details["free"], never.value.details["budgets"]) == (free, budgets)


def test_what_cannot_fit_as_it_is_asked_for_is_told_how_it_would() -> None:
    nodes = dict.fromkeys("ab", 2 * LAYER)
    with pytest.raises(UnplaceableError, match="it would fit with mode distributed"):
        plan(PlanRequest(), facts(), nodes, nodes)


def test_uneven_nodes_get_uneven_stages_in_whatever_order_is_fastest() -> None:
    found = plan(asked(), facts(), {"a": LAYER, "b": 3 * LAYER})
    assert placed(found) == {"a": LAYER, "b": 3 * LAYER}
    slow_first = facts(measured={"d0": 3.0, "d1": 1.0, "d2": 1.0, "d3": 1.0})
    found = plan(asked(), slow_first, {"a": LAYER, "b": 3 * LAYER})
    assert [each.node for each in found.nodes] == ["a", "b"]
    slow_last = facts(measured={"d0": 1.0, "d1": 1.0, "d2": 1.0, "d3": 3.0})
    found = plan(asked(), slow_last, {"a": LAYER, "b": 3 * LAYER})
    assert [each.node for each in found.nodes] == ["b", "a"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 5 * LAYER), min_size=1, max_size=6), st.data())
def test_no_plan_is_over_a_budget_and_no_layer_is_left_out(
    budgets: list[int], data: st.DataObject
) -> None:
    nodes = {f"n{i}": free for i, free in enumerate(budgets)}
    split = data.draw(st.sampled_from(["pipeline", "tensor"]))
    count = data.draw(st.none() | st.integers(1, len(nodes)))
    if count is None and len(nodes) < 2:
        return
    found = unless_refused(asked(split, count), facts(5), nodes)
    if found is None:
        return
    assert count is None or len(found.nodes) == count
    assert len({each.node for each in found.nodes}) == len(found.nodes)
    for each in found.nodes:
        assert each.nbytes <= nodes[each.node] == each.free
        assert each.submodel is not None
        assert each.nbytes == each.submodel.nbytes
    assert sum(placed(found).values()) == 5 * LAYER
    layers = {name for each in found.nodes if each.submodel for name in each.submodel.layers}
    assert len(layers) == 10


def unless_refused(request: PlanRequest, given_: ModelFacts, nodes: dict[str, int]) -> Plan | None:
    """The plan; None when it was rightly refused."""
    try:
        return plan(request, given_, nodes)
    except MemoryBudgetError as error:
        needed = sorted(error.details["needed"])
    roomy = sorted(nodes.values())[-len(needed) :]
    if any(size > free for size, free in zip(needed, roomy, strict=True)):
        return None
    raise AssertionError(f"{needed} fit {roomy}")


def test_without_a_number_the_fewest_nodes_are_taken() -> None:
    roomy = dict.fromkeys("abcd", 4 * LAYER)
    assert len(plan(asked(nodes=None), facts(), roomy).nodes) == 2
    tight = dict.fromkeys("abcd", LAYER)
    assert len(plan(asked(nodes=None), facts(), tight).nodes) == 4
    with pytest.raises(MemoryBudgetError, match="a pipeline split needs"):
        plan(asked(nodes=None), facts(), dict.fromkeys("abcd", LAYER - 1))


@pytest.mark.parametrize("free", [LAYER - 1, 1])
def test_more_nodes_than_layers_do_not_hide_that_memory_is_missing(free: int) -> None:
    nodes = {f"n{i}": free for i in range(9)}
    with pytest.raises(MemoryBudgetError, match="a pipeline split needs"):
        plan(asked(nodes=None), facts(1), nodes)


def test_measured_times_move_the_cut() -> None:
    nodes = dict.fromkeys("ab", 9 * LAYER)
    even = plan(asked(), facts(), nodes)
    slow = dict.fromkeys(("d0", "d1", "d2", "d3"), 0.1) | {"d0": 1.0}
    moved = plan(asked(), facts(measured=slow), nodes)
    assert list(placed(even).values()) == [2 * LAYER, 2 * LAYER]
    assert list(placed(moved).values()) == [LAYER, 3 * LAYER]
    assert moved.latency_s is not None
    assert 1.3 < moved.latency_s < 1.31
    shards = plan(asked("tensor"), facts(measured=slow), nodes)
    assert shards.latency_s is not None
    assert 0.6 < shards.latency_s < 0.7


BAD: list[tuple[PlanRequest, ModelFacts, str]] = [
    (
        asked(nodes=5),
        facts(),
        "5 nodes were asked for, each on a node of its own; there are 2: a, b",
    ),
    (PlanRequest(replicas=3), facts(), "3 replicas were asked for"),
    (asked(), ModelFacts(9), "only a version with a layer graph can be split"),
]


@pytest.mark.parametrize(("request_", "given_", "reason"), BAD)
def test_what_makes_no_sense_is_refused(
    request_: PlanRequest, given_: ModelFacts, reason: str
) -> None:
    with pytest.raises(InvalidError, match=reason):
        plan(request_, given_, {"a": 1 << 30, "b": 1 << 30})


def test_a_split_needs_two_nodes_and_layers_to_share() -> None:
    with pytest.raises(InvalidError, match="takes two nodes at least; there is one: a"):
        plan(asked(nodes=None), facts(), {"a": 1 << 30})
    plain = Network.from_spec(spec([{"name": "a", "op": "relu"}], ["a"]))
    nodes = {"a": 1 << 30, "b": 1 << 30}
    with pytest.raises(InvalidError, match="2 stages were asked for; the graph has 1 layers"):
        plan(asked(), ModelFacts(0, plain), nodes)
    with pytest.raises(GraphError, match="no layer can be split over 2 shards"):
        plan(asked("tensor"), ModelFacts(0, plain), nodes)


def test_a_version_without_a_layer_graph_is_placed_whole() -> None:
    found = plan(PlanRequest(), ModelFacts(100), {"a": 100})
    assert found.to_data() == {
        "mode": "centralized",
        "max_batch_size": 32,
        "micro_batch": 32,
        "bytes": 100,
        "expected_latency_ms": None,
        "expected_items_per_s": None,
        "nodes": [{"node": "a", "bytes": 100, "free": 100}],
    }


@pytest.mark.parametrize("split", ["pipeline", "tensor"])
def test_a_dry_run_shows_each_node_s_bytes_layers_time_and_boundary(split: Any) -> None:
    data = plan(asked(split), facts(), {"a": 1 << 30, "b": 1 << 30}).to_data()
    assert json.loads(json.dumps(data)) == data
    assert data["mode"] == "distributed"
    assert data["split"] == split
    assert data["bytes"] == 4 * LAYER
    first, second = data["nodes"]
    assert first["layers"][:2] == ["d0", "r0"]
    assert "d3" in second["layers"]
    assert first["bytes_in"] >= 4 * 64
    assert 0 < first["expected_ms"] < data["expected_latency_ms"]


@pytest.mark.parametrize("split", ["pipeline", "tensor"])
def test_batches_whose_values_are_large_are_cut_smaller(split: Any) -> None:
    layers: list[Option] = [
        {"name": f"c{i}", "op": "conv2d", "filters": 16, "kernel": [3, 3]} for i in range(3)
    ]
    network = Network.from_spec(spec(layers, ["c2"], (128, 128, 3)))
    nodes = {"a": 1 << 30, "b": 1 << 30}
    found = plan(asked(split), ModelFacts(4 * network.parameter_count, network), nodes)
    assert found.micro_batch == (4 << 20) // (4 * 16 * 128 * 128)
    assert plan(asked(split), facts(), nodes).micro_batch == 32


def test_whole_versions_show_their_layers_too() -> None:
    (whole,) = plan(PlanRequest(), facts(1), {"a": 1 << 30}).to_data()["nodes"]
    assert whole["layers"] == ["d0", "r0"]
    assert (whole["bytes_in"], whole["bytes_out"]) == (4 * 64, 4 * 64)
