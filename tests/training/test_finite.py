"""A training over what are no numbers is refused before its first step, and says which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiaas_async.data.dataset import Dataset
from aiaas_async.data.schema import parse_spec
from aiaas_async.data.source import Source
from aiaas_async.errors import InvalidError
from aiaas_async.ring.hashring import Ring
from aiaas_async.runtimes.base import Artifact
from aiaas_async.training import finite
from aiaas_async.training.finite import check_finite
from aiaas_async.training.items import Wiring
from aiaas_async.training.task import run_task
from tests.training.data import GRAPH, points
from tests.training.test_distributed import run as run_parts

COUNT = 50
WIRING = Wiring({"x": "x"}, "y")


def manifest(folder: Path, x: Any, y: Any = None) -> dict[str, Any]:
    """A data set on two nodes whose items are called k0, k1, …"""
    y = points(COUNT)["y"] if y is None else y
    columns = {"x": {"dtype": "float32", "shape": [6]}, "y": {"dtype": y.dtype.name}}
    spec = parse_spec("points", "ab12", {"columns": columns}, 1.0)
    dataset = Dataset.create(folder / "data", spec, Ring(["node-0", "node-1"], bytes(16), 16))
    dataset.put([f"k{i}" for i in range(COUNT)], {"x": x, "y": y})
    return dataset.source().manifest()


def spoilt(value: float = np.nan) -> Any:
    """Items 7, 30 and 31 have a value that is none."""
    x = points(COUNT)["x"]
    x[[31, 7, 30], [2, 0, 5]] = value
    return x


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("chunk", [1, 100, 4 << 20])
def test_column_first_key_and_count_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, chunk: int
) -> None:
    monkeypatch.setattr(finite, "_CHUNK_BYTES", chunk)
    source = Source.open(manifest(tmp_path, spoilt(value)))
    with pytest.raises(InvalidError) as caught:
        list(check_finite(source, WIRING))
    assert caught.value.details == {"column": "x", "first_key": "k7", "items": 3}
    assert "column 'x' has values that are not finite (NaN or infinite) in 3 items, first in " in (
        caught.value.message
    )


def test_parts_see_what_is_theirs_and_name_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finite, "_CHUNK_BYTES", 24 * 5)
    source = Source.open(manifest(tmp_path, spoilt()))
    told = []
    for number in range(20):
        try:
            list(check_finite(source, WIRING, (number, 20)))
        except InvalidError as error:
            told.append(error.details["first_key"])
    assert 1 <= len(told) <= 3
    assert set(told) == {"k7"}


def test_a_target_is_looked_at_too_and_a_column_that_nobody_reads_is_not(tmp_path: Path) -> None:
    y = points(COUNT)["y"].astype(np.float32)
    y[3] = np.nan
    source = Source.open(manifest(tmp_path, points(COUNT)["x"], y))
    with pytest.raises(InvalidError, match=r"column 'y' .* in 1 item, first in item 'k3'"):
        list(check_finite(source, WIRING))
    list(check_finite(source, Wiring({"x": "x"}, "x")))


def test_huge_values_are_numbers(tmp_path: Path) -> None:
    x = np.full((COUNT, 6), np.finfo(np.float32).max, np.float32)
    list(check_finite(Source.open(manifest(tmp_path, x)), WIRING))


def test_a_task_is_refused_before_its_first_step(tmp_path: Path) -> None:
    task = {"plan": {"epochs": 2}, "data": manifest(tmp_path, spoilt()), "start": "graph"}
    with pytest.raises(InvalidError, match="column 'x'"):
        list(run_task(Artifact({}, GRAPH), task, tmp_path / "job", lambda: False))


def test_a_distributed_run_is_refused_by_whoever_meets_it(tmp_path: Path) -> None:
    plan = {"epochs": 2, "method": "distributed", "nodes": 2}
    task = {"plan": plan, "data": manifest(tmp_path, spoilt()), "start": "graph"}
    with pytest.raises(InvalidError, match="column 'x'"):
        run_parts(tmp_path, task)
