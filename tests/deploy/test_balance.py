"""A pipeline is cut again when its stages took other times than expected, and it is worth it."""

from __future__ import annotations

import pytest

from aiaas_async.deploy.balance import measured_layers, rebalanced
from aiaas_async.deploy.plan import PlanRequest, plan
from aiaas_async.errors import InvalidError
from tests.deploy.test_plan import LAYER, asked, facts, placed

NODES = dict.fromkeys("ab", 9 * LAYER)


def test_each_stage_s_time_is_shared_out_among_its_layers() -> None:
    found = measured_layers(plan(asked(), facts(), NODES), [6.0, 2.0])
    assert sum(found[name] for name in ("d0", "r0", "d1", "r1")) == pytest.approx(6.0)
    assert sum(found[name] for name in ("d2", "r2", "d3", "r3")) == pytest.approx(2.0)
    assert found["d0"] == pytest.approx(found["d1"])
    assert found["d0"] > found["r0"]


def test_a_stage_that_took_longer_gives_layers_away() -> None:
    old = plan(asked(), facts(), NODES)
    new = rebalanced(old, [8.0, 1.0], facts(), NODES)
    assert new is not None
    assert list(placed(new).values()) == [LAYER, 3 * LAYER]
    assert placed(new).keys() == placed(old).keys()


def test_a_cut_that_is_nearly_even_stays() -> None:
    assert rebalanced(plan(asked(), facts(), NODES), [1.05, 1.0], facts(), NODES) is None


def test_stages_that_take_no_longer_than_a_hop_stay() -> None:
    found = plan(asked(), facts(), NODES)
    assert rebalanced(found, [200e-6, 20e-6], facts(), NODES) is None
    assert rebalanced(found, [2000e-6, 200e-6], facts(), NODES) is not None


def test_where_memory_holds_the_weights_only_what_has_none_moves() -> None:
    tight = dict.fromkeys("ab", 2 * LAYER)
    new = rebalanced(plan(asked(), facts(), tight), [8.0, 1.0], facts(), tight)
    assert new is not None
    first = new.nodes[0].submodel
    assert first is not None
    assert first.layers == ("d0", "r0", "d1")


def test_only_the_stages_of_a_pipeline_can_be_balanced() -> None:
    for found, times in (
        (plan(asked(), facts(), NODES), [1.0]),
        (plan(asked("tensor"), facts(), NODES), [1.0, 1.0]),
        (plan(PlanRequest(), facts(), NODES), [1.0]),
    ):
        with pytest.raises(InvalidError, match=r"for each of the|not split"):
            measured_layers(found, times)
