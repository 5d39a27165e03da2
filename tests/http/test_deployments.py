"""Deployments over HTTP: planned, placed, called, replaced, moved, remembered."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from aiaas_async.compute.inloop import InLoopWorkers
from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.http.server import running_server
from aiaas_async.wire.codecs import JSON
from tests.http.api import Api, Reply
from tests.http.conftest import Served, settings

UNITS = 512
DISTRIBUTED: list[dict[str, Any]] = [
    {"mode": "distributed", "split": "pipeline", "nodes": 2},
    {"mode": "distributed", "split": "tensor", "nodes": 2},
    {"mode": "distributed", "split": "pipeline", "nodes": 2, "max_batch_size": 3},
]
X = np.random.default_rng(0).standard_normal((7, UNITS)).astype(np.float32)


def graph() -> dict[str, Any]:
    layers: list[dict[str, Any]] = []
    for i in range(4):
        layers += [
            {"name": f"d{i}", "op": "dense", "units": UNITS},
            {"name": f"r{i}", "op": "relu"},
        ]
    inputs = [{"name": "x", "dtype": "float32", "shape": [UNITS]}]
    return {"inputs": inputs, "layers": layers, "outputs": ["r3"]}


def weights(folder: Path) -> bytes:
    rng = np.random.default_rng(1)
    found = {}
    for i in range(4):
        found[f"d{i}.weight"] = (rng.standard_normal((UNITS, UNITS)) / 16).astype(np.float32)
        found[f"d{i}.bias"] = np.ones(UNITS, np.float32)
    write_tensors(folder / "w.safetensors", found)
    return (folder / "w.safetensors").read_bytes()


async def push(api: Api, folder: Path, version: str = "1") -> None:
    metadata = {"name": "deep", "version": version, "graph": graph()}
    reply = await api.post("/register", {**metadata, "inputs": ["x"], "outputs": ["r3"]})
    assert reply.status == 200, reply.value
    path = f"/models/deep/versions/{version}"
    headers = {"Content-Type": "application/octet-stream"}
    reply = await api.put(
        f"{path}/files/w.safetensors", raw=io.BytesIO(weights(folder)), headers=headers
    )
    assert reply.status == 201, reply.value
    reply = await api.post(f"{path}/commit")
    assert reply.status == 200, reply.value


async def call(api: Api, version: str = "1") -> Reply:
    body = {"model": "deep", "version": version, "inputs": {"x": X.tolist()}}
    return await api.post("/call", body)


async def answers(api: Api) -> np.ndarray:
    reply = await call(api)
    assert reply.status == 200, reply.value
    return np.array(reply.value["outputs"]["r3"])


@pytest.mark.parametrize("asked", DISTRIBUTED)
async def test_a_distributed_version_answers_like_the_whole(
    served: Served, scratch: Path, asked: dict[str, Any]
) -> None:
    api = served.api
    await push(api, scratch)
    whole = await answers(api)
    reply = await api.post("/deployments", {"model": "deep", **asked})
    assert reply.status == 201, reply.value
    assert reply.value["state"] == "ready"
    assert {node["node"] for node in reply.value["plan"]["nodes"]} == {"node-0", "node-1"}
    split = await call(api)
    assert split.value["timing"]["node"].count("+") == 1
    assert np.allclose(split.value["outputs"]["r3"], whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("served", [{"node_memory_mb": 3}], indirect=True)
async def test_a_version_larger_than_any_node_runs_when_it_is_split(
    served: Served, scratch: Path
) -> None:
    api = served.api
    await push(api, scratch)  # 4.2 MB of weights
    refused = await call(api)
    assert (refused.status, refused.code) == (507, "unplaceable")
    whole = await api.post("/deployments", {"model": "deep"})
    assert (whole.status, whole.code) == (507, "unplaceable")
    assert "it would fit with" in whole.detail
    split = await api.post("/deployments", {"model": "deep", "mode": "distributed"})
    assert split.status == 201, split.value
    assert (await call(api)).status == 200
    await push(api, scratch, "2")  # which would fit, if the first were not there
    full = await api.post("/deployments", {"model": "deep", "version": "2", "split": "pipeline"})
    assert (full.status, full.code) == (507, "memory_budget")
    nodes = (await api.get("/nodes")).value["nodes"]
    assert all(0 < node["memory"]["used"] <= 3 << 20 for node in nodes)


async def test_a_dry_run_shows_the_plan_and_places_nothing(served: Served, scratch: Path) -> None:
    await push(served.api, scratch)
    body = {"model": "deep", "mode": "distributed", "nodes": 2, "dry_run": True}
    reply = await served.api.post("/deployments", body)
    assert reply.status == 200
    assert len(reply.value["plan"]["nodes"]) == 2
    assert (await served.api.get("/deployments")).value == {"deployments": []}
    assert all(not n["loaded"] for n in (await served.api.get("/nodes")).value["nodes"])


async def test_a_split_is_distributed_without_saying_so(served: Served, scratch: Path) -> None:
    await push(served.api, scratch)
    body = {"model": "deep", "split": "tensor", "dry_run": True}
    plan = (await served.api.post("/deployments", body)).value["plan"]
    assert (plan["mode"], plan["split"], len(plan["nodes"])) == ("distributed", "tensor", 2)


async def test_replicas_share_the_calls(served: Served, scratch: Path) -> None:
    await push(served.api, scratch)
    reply = await served.api.post("/deployments", {"model": "deep", "replicas": 2})
    assert reply.status == 201, reply.value
    replies = await asyncio.gather(*(call(served.api) for _ in range(8)))
    assert {reply.value["timing"]["node"] for reply in replies} == {"node-0", "node-1"}


async def test_a_deployment_is_replaced_under_load_without_a_failed_call(
    served: Served, scratch: Path
) -> None:
    api = served.api
    await push(api, scratch)
    first = (await api.post("/deployments", {"model": "deep", **DISTRIBUTED[0]})).value
    done = asyncio.Event()

    async def caller() -> list[int]:
        statuses = []
        while not done.is_set():
            statuses.append((await call(api)).status)
        return statuses

    callers = [asyncio.create_task(caller()) for _ in range(3)]
    second = (await api.post("/deployments", {"model": "deep", **DISTRIBUTED[1]})).value
    third = (await api.post("/deployments", {"model": "deep", "replicas": 2})).value
    done.set()
    statuses = {status for found in await asyncio.gather(*callers) for status in found}
    assert statuses == {200}
    assert first["id"] == second["id"] == third["id"]
    await served.platform.deployments.settled()
    nodes = (await api.get("/nodes")).value["nodes"]
    assert [len(node["loaded"]) for node in nodes] == [1, 1]


async def test_a_deployment_moves_when_its_node_leaves(served: Served, scratch: Path) -> None:
    api = served.api
    await push(api, scratch)
    whole = await answers(api)
    assert (await api.post("/nodes", {})).status in (200, 201)
    placed = (await api.post("/deployments", {"model": "deep", **DISTRIBUTED[0]})).value
    leaving = placed["plan"]["nodes"][0]["node"]
    assert (await api.delete(f"/nodes/{leaving}")).status == 200
    found = (await api.get(f"/deployments/{placed['id']}")).value
    assert found["state"] == "ready"
    assert leaving not in {node["node"] for node in found["plan"]["nodes"]}
    assert np.allclose(await answers(api), whole, rtol=1e-5, atol=1e-5)


async def test_what_fits_nowhere_else_has_failed_and_says_why(
    served: Served, scratch: Path
) -> None:
    api = served.api
    await push(api, scratch)
    placed = (await api.post("/deployments", {"model": "deep", **DISTRIBUTED[0]})).value
    refused = await api.delete("/nodes/node-1")
    assert refused.status == 409
    assert f"node node-1 is needed by deployment {placed['id']} of deep:1" in refused.detail
    assert (await api.delete("/nodes/node-1?force=1")).status == 422
    assert (await api.delete("/nodes/node-1?force=true")).status == 200
    found = (await api.get(f"/deployments/{placed['id']}")).value
    assert found["state"] == "failed"
    assert "2 nodes were asked for" in found["reason"]


async def test_a_deployment_is_there_again_after_a_restart(scratch: Path) -> None:
    for expected in (0, 1):
        async with (
            running_server(settings(scratch), InLoopWorkers()) as (platform, url),
            aiohttp.ClientSession() as session,
        ):
            api = Api(session, url, JSON, str(scratch))
            await platform.deployments.restored.wait()
            found = (await api.get("/deployments")).value["deployments"]
            assert len(found) == expected
            if not expected:
                await push(api, scratch)
                await api.post("/deployments", {"model": "deep", **DISTRIBUTED[0]})
            else:
                assert found[0]["state"] == "ready"
                assert "+" in (await call(api)).value["timing"]["node"]


async def test_a_deleted_deployment_frees_its_pieces_and_the_version_still_answers(
    served: Served, scratch: Path
) -> None:
    api = served.api
    await push(api, scratch)
    placed = (await api.post("/deployments", {"model": "deep", **DISTRIBUTED[0]})).value
    in_use = await api.delete("/models/deep/versions/1")
    assert in_use.status == 409
    assert placed["id"] in in_use.detail
    assert (await api.delete(f"/deployments/{placed['id']}")).status == 204
    await served.platform.deployments.settled()
    assert all(not n["loaded"] for n in (await api.get("/nodes")).value["nodes"])
    assert (await call(api)).status == 200


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"model": "nope"}, 404, "no model is called"),
        ({}, 422, "model"),
        ({"model": "deep", "mode": "split"}, 422, "mode"),
        ({"model": "deep", "replica": 2}, 422, "no field 'replica'"),
        (
            {"model": "deep", "replicas": 3},
            422,
            "3 replicas were asked for, each on a node of its own; there are 2",
        ),
        ({"model": "deep", "mode": "distributed", "nodes": 9}, 422, "9 nodes were asked for"),
        ({"model": "deep", "mode": "centralized", "split": "tensor"}, 422, "split 'tensor' is for"),
        ({"model": "deep", "nodes": 2}, 422, "nodes 2 is for a version that is divided"),
        ({"model": "deep", "split": "tensor", "replicas": 2}, 422, "replicas 2 are copies of"),
        ({"model": "deep", "max_delay_ms": -1}, 422, "max_delay_ms"),
        ({"model": "deep", "dry_run": 1}, 422, "dry_run"),
    ],
)
async def test_what_cannot_be_deployed_is_refused_with_the_reason(
    served: Served, scratch: Path, body: dict[str, Any], status: int, said: str
) -> None:
    await push(served.api, scratch)
    reply = await served.api.post("/deployments", body)
    assert reply.status == status, reply.value
    assert said in reply.detail


async def test_an_unknown_deployment_is_not_found(served: Served) -> None:
    assert (await served.api.get("/deployments/nope")).status == 404
    assert (await served.api.delete("/deployments/nope")).status == 404
