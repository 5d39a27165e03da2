"""Calls of a version that goes, or is made anew, while they are under way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiaas_async.errors import NotFoundError
from aiaas_async.names import ModelRef
from aiaas_async.nn.network import Network
from aiaas_async.service.calls import CallRequest
from aiaas_async.service.platform import Platform
from tests.service.conftest import Start
from tests.service.pushing import push

ADDING = Network.from_spec(
    {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [2]}],
        "layers": [{"name": "y", "op": "dense", "units": 2}],
        "outputs": ["y"],
    }
)


async def pushed(platform: Platform, folder: Path, bias: float, name: str = "m") -> None:
    """A version that answers `bias`."""
    weights = {"y.weight": np.zeros((2, 2), np.float32), "y.bias": np.full(2, bias, np.float32)}
    await push(platform, folder, ModelRef(name, "1"), ADDING, weights)


async def answer(platform: Platform) -> list[float]:
    found: Mapping[str, Any] = (
        await platform.calls.call(CallRequest({"x": [1.0, 2.0]}, "m"))
    ).outputs
    values: list[float] = found["y"].tolist()
    return values


async def test_a_version_made_anew_answers_whatever_calls_of_the_old_one_are_left(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one's files are there still: another version has the same."""
    async with start(nodes=1) as platform:
        await pushed(platform, tmp_path, 1, "other")
        await pushed(platform, tmp_path, 1)
        ask = platform.cluster.ask

        async def ask_late(*asked: Any) -> Any:
            await platform.models.delete("m")
            return await ask(*asked)

        with monkeypatch.context() as patch:
            patch.setattr(platform.cluster, "ask", ask_late)
            assert await answer(platform) == [1, 1]
        await pushed(platform, tmp_path, 2)
        assert await answer(platform) == [2, 2]


async def test_a_call_that_comes_to_a_node_after_its_version_is_gone_is_told_so(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(nodes=1) as platform:
        await pushed(platform, tmp_path, 1)
        ask = platform.cluster.ask

        async def ask_late(*asked: Any) -> Any:
            await platform.models.delete("m")
            return await ask(*asked)

        monkeypatch.setattr(platform.cluster, "ask", ask_late)
        with pytest.raises(NotFoundError, match="m:1 was deleted while this call was under way"):
            await answer(platform)
