"""Columns find their inputs, and the split is a function of the seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.data.schema import Column
from aiaas_async.errors import InvalidError
from aiaas_async.nn.network import Network
from aiaas_async.training.items import Wiring, kept_if_small, split_items, wire
from aiaas_async.training.plan import parse_plan
from tests.training.data import COLUMNS, GRAPH, items


def wired(columns: dict[str, Column], **plan: Any) -> Wiring:
    return wire(Network.from_spec(GRAPH), columns, parse_plan(plan))


def test_columns_go_to_the_inputs_of_their_name_and_the_one_left_is_the_target() -> None:
    assert wired(COLUMNS) == Wiring({"x": "x"}, "y")
    columns = {"pixels": COLUMNS["x"], "digit": COLUMNS["y"], "other": COLUMNS["y"]}
    assert wired(columns, inputs={"pixels": "x"}, target="digit") == Wiring(
        {"x": "pixels"}, "digit"
    )


@pytest.mark.parametrize(
    ("columns", "plan", "reason"),
    [
        ({"x": COLUMNS["x"]}, {}, r"which column is the target\? No input reads \[\]"),
        (COLUMNS | {"z": COLUMNS["y"]}, {}, r"No input reads \['y', 'z'\]"),
        ({"y": COLUMNS["y"]}, {}, "no column feeds the graph's input 'x'"),
        (COLUMNS, {"inputs": {"z": "x"}}, "no column 'z'"),
        (COLUMNS, {"inputs": {"x": "z"}}, "no input 'z'"),
        (COLUMNS, {"target": "labels"}, "plan.target: the data set has no column 'labels'"),
        ({"x": Column("uint8", (3, 2)), "y": COLUMNS["y"]}, {}, r"holds uint8 \[3, 2\]; .*\[6\]"),
    ],
)
def test_what_does_not_fit_is_named(
    columns: dict[str, Column], plan: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidError, match=reason):
        wired(columns, **plan)


def test_floats_do_not_feed_an_input_of_whole_numbers() -> None:
    graph = {
        "inputs": [{"name": "x", "dtype": "int64", "shape": []}],
        "layers": [{"name": "e", "op": "embedding", "vocabulary": 3, "units": 2}],
        "outputs": ["e"],
    }
    columns = {"x": Column("float32"), "y": Column("int64")}
    with pytest.raises(InvalidError, match="'x' holds float32; the graph's input 'x' takes int64"):
        wire(Network.from_spec(graph), columns, parse_plan({}))


@given(st.integers(2, 500), st.floats(0.0, 0.9), st.integers(0, 2**63 - 1))
def test_a_split_parts_all_items_as_the_seed_says(count: int, share: float, seed: int) -> None:
    plan = parse_plan({"validation": share, "seed": seed})
    split = split_items(count, plan)
    both = np.sort(np.concatenate([split.train, split.validation]))
    np.testing.assert_array_equal(both, np.arange(count))
    assert len(split.train) >= 1
    assert (len(split.validation) >= 1) == (share > 0)
    np.testing.assert_array_equal(split.validation, split_items(count, plan).validation)


def test_another_seed_keeps_others_back() -> None:
    one, other = (split_items(100, parse_plan({"seed": seed})).validation for seed in (1, 2))
    assert one.tolist() != other.tolist()


@pytest.mark.parametrize(("count", "share"), [(0, 0.0), (0, 0.5), (1, 0.5)])
def test_too_few_items_are_refused(count: int, share: float) -> None:
    with pytest.raises(InvalidError, match=f"has {count} items: too few"):
        split_items(count, parse_plan({"validation": share}))


def test_small_data_is_read_once_and_large_data_stays_where_it_is() -> None:
    memory = items(10)
    kept = kept_if_small(memory)
    assert kept is not memory
    picked = np.array([3, 1, 3])
    np.testing.assert_array_equal(kept.take(picked)["x"], memory.take(picked)["x"])
    assert len(kept) == 10
    huge = type(memory)(memory.arrays, {"x": Column("float32", (2**23,))})
    assert kept_if_small(huge) is huge
