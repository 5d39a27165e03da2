"""A deployment that remembers its answers: asked for, shown, bounded, ended with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from tests.http.api import Api
from tests.http.conftest import Served
from tests.http.models import OCTETS, V, commit_doubler, metadata, succeed
from tests.runtimes.onnxmodels import model, value

CALL = {"model": "doubler", "inputs": {"x": [1, 2, 3, 4]}}


async def cached(api: Api, body: dict[str, Any] = CALL) -> bool:
    timing: dict[str, Any] = (await succeed(api.post("/call", body))).value["timing"]
    return bool(timing.get("cached", False))


async def deployed(api: Api, **more: Any) -> dict[str, Any]:
    asked = {"model": "doubler", "cache_mb": 1, **more}
    found: dict[str, Any] = (await succeed(api.post("/deployments", asked))).value
    return found


async def test_equal_calls_are_remembered_and_counted(served: Served) -> None:
    api = served.api
    await commit_doubler(api)
    found = await deployed(api)
    assert found["cache_mb"] == 1
    rows = _rows(served)
    assert [await cached(api) for _ in range(3)] == [False, True, True]
    assert (await api.post("/call", CALL)).value["outputs"] == {"doubled": [2, 4, 6, 8]}
    assert not await cached(api, {**CALL, "inputs": {"x": [1, 2, 3, 5]}})
    assert _rows(served) == rows + 2
    cache = (await api.get(f"/deployments/{found['id']}")).value["cache"]
    text = (await api.get("/metrics")).value.decode()
    for what, count in (("hits", 3), ("misses", 2)):
        row = f'nv_cache_num_{what}_per_model{{model="doubler",version="1.0"}} {count}'
        assert row in text.replace(".0\n", "\n")
    for what in ("entries", "bytes", "budget", "evictions"):
        row = 'aiaas_cache_{}{{model="doubler",version="1.0"}} {}'
        suffix = {"budget": "budget_bytes", "evictions": "evictions_total"}.get(what, what)
        assert row.format(suffix, cache[what]) in text.replace(".0\n", "\n")
    assert {name: cache[name] for name in ("hits", "misses", "evictions", "entries")} == {
        "hits": 3,
        "misses": 2,
        "evictions": 0,
        "entries": 2,
    }


def _rows(served: Served) -> int:
    return sum(node.statistics.rows for node in served.platform.cluster.nodes.values())


async def test_a_batch_of_one_and_the_item_itself_share_an_answer_each_in_its_form(
    served: Served,
) -> None:
    api = served.api
    await commit_doubler(api)
    await deployed(api)
    assert not await cached(api)
    batch = await api.post("/call", {**CALL, "inputs": {"x": [[1, 2, 3, 4]]}})
    assert batch.value["timing"]["cached"]
    assert batch.value["outputs"] == {"doubled": [[2, 4, 6, 8]]}


async def test_nothing_is_remembered_unless_asked_for(served: Served) -> None:
    api = served.api
    await commit_doubler(api)
    assert [await cached(api) for _ in range(2)] == [False, False]
    assert (await deployed(api, cache_mb=0))["cache"] is None
    assert [await cached(api) for _ in range(2)] == [False, False]


async def test_a_deployment_that_is_replaced_or_ended_forgets(served: Served) -> None:
    api = served.api
    await commit_doubler(api)
    first = await deployed(api)
    await cached(api)
    assert (await deployed(api, replicas=2))["id"] == first["id"]
    assert [await cached(api) for _ in range(2)] == [False, True]
    assert (await api.delete(f"/deployments/{first['id']}")).status == 204
    assert [await cached(api) for _ in range(2)] == [False, False]


async def test_a_version_that_draws_random_numbers_is_not_cached(
    served: Served, scratch: Path
) -> None:
    node = helper.make_node("RandomNormalLike", ["x"], ["y"])
    data = model([node], [value("x")], [value("y")]).SerializeToString()
    api = served.api
    await succeed(api.post("/register", metadata("noise", runtime="onnx")))
    await succeed(api.put(V.format("noise") + "/files/m.onnx", raw=data, headers=OCTETS))
    await succeed(api.post(V.format("noise") + "/commit"))
    refused = await api.post("/deployments", {"model": "noise", "cache_mb": 1})
    assert (refused.status, refused.code) == (422, "invalid")
    assert "answers of noise:1.0 cannot be cached" in refused.detail
    await succeed(api.post("/deployments", {"model": "noise"}))


@pytest.mark.parametrize("wrong", [-1, 1.5, "1", 1 << 21])
async def test_a_budget_that_is_none_is_refused(served: Served, wrong: object) -> None:
    await commit_doubler(served.api)
    refused = await served.api.post("/deployments", {"model": "doubler", "cache_mb": wrong})
    assert refused.status == 422
    assert "cache_mb" in refused.detail


async def test_the_open_inference_protocol_tells_of_it_too(served: Served) -> None:
    api = served.api
    await commit_doubler(api)
    await deployed(api)
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    asked = {"inputs": [tensor]}
    replies = [(await succeed(api.post("/v2/models/doubler/infer", asked))).value for _ in range(2)]
    assert [reply["parameters"].get("cached") for reply in replies] == [None, True]
    assert replies[0]["outputs"] == replies[1]["outputs"]
