"""What a version is shown as: also while it is in quarantine, and while it is a candidate."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from aiaas_async.node.quarantine import MAX_DEATHS
from aiaas_async.service.platform import Platform
from tests.http.api import Api
from tests.http.conftest import Served
from tests.http.models import V, commit_doubler, succeed
from tests.http.test_jobs import ORDER, PLAN, events, store

CALL = {"inputs": {"x": [1.0, 2.0, 3.0, 4.0]}, "model": "doubler"}
HARD = {"register_as": {"alias": "best", "gate": "val_loss < 0"}}
REASON = "the gate asks for val_loss < 0"


def kill_three_times(platform: Platform, version: str) -> None:
    """As if three workers had died of `version`."""
    for _ in range(MAX_DEATHS):
        now = asyncio.get_running_loop().time()
        platform.cluster.quarantine.record(version, now)


@pytest.mark.parametrize("piece", ["", "#piece.1"])
async def test_a_version_in_quarantine_is_shown_so_wherever_it_is_shown(
    served: Served, piece: str
) -> None:
    api = served.api
    await commit_doubler(api)
    await commit_doubler(api, "other")
    deployed = (await succeed(api.post("/deployments", {"model": "doubler"}))).value
    kill_three_times(served.platform, f"doubler:1.0{piece}")
    listed = {m["name"]: m["versions"][0] for m in (await api.get("/models")).value["models"]}
    assert (listed["other"]["state"], listed["other"]["quarantined_until"]) == ("ready", None)
    shown = [
        listed["doubler"],
        (await api.get("/models/doubler")).value["versions"][0],
        (await api.get(V.format("doubler"))).value,
        (await api.get("/deployments")).value["deployments"][0],
        (await api.get(f"/deployments/{deployed['id']}")).value,
    ]
    for facts in shown:
        assert facts["state"] == "quarantined"
        assert facts["reason"].startswith("it killed its compute process 3 times within 60 s")
        assert "commit a repaired one" in facts["reason"]
        assert 50 < facts["quarantined_until"] - time.time() <= 61
    for node in (await api.get("/nodes")).value["nodes"]:
        (held,) = node["quarantined"]
        assert held["version"] == "doubler:1.0"
    found = (await api.post("/discover", {"name": "doubler"})).value
    assert found["matches"][0]["state"] == "quarantined"
    (row,) = [
        row
        for row in (await api.post("/v2/repository/index", {})).value
        if row["name"] == "doubler"
    ]
    assert row["state"] == "UNAVAILABLE"
    assert row["reason"].startswith("it killed")
    async with api.session.get(f"{api.url}/v2/models/doubler/versions/1.0/ready") as answer:
        assert answer.status == 400
    assert b'aiaas_versions{state="quarantined"} 1' in (await api.get("/metrics")).value


async def test_a_version_that_is_deleted_and_committed_anew_has_killed_nobody(
    served: Served,
) -> None:
    api = served.api
    await commit_doubler(api)
    kill_three_times(served.platform, "doubler:1.0")
    assert (await api.post("/call", CALL)).code == "quarantined"
    assert (await api.delete(V.format("doubler"))).status == 204
    assert (await commit_doubler(api)).value["state"] == "ready"
    await succeed(api.post("/call", CALL))


async def trained(api: Api, version: str, **more: Any) -> dict[str, Any]:
    """The result of a training job that is over."""
    job = (await succeed(api.post("/train", {**ORDER, "version": version, **more}))).value["job"]
    await events(api, job)
    facts: dict[str, Any] = (await api.get(f"/jobs/{job}")).value["result"]
    return facts


async def test_latest_passes_over_a_version_whose_gate_did_not_hold(served: Served) -> None:
    api, call = served.api, {"model": "m", "inputs": {"x": [0] * 6}}
    await store(api)
    await trained(api, "1.0", register_as={"alias": "best"})
    await trained(api, "2.0", **HARD)
    shown = (await api.get("/models/m")).value
    assert shown["latest"] == "1.0"
    first, second = shown["versions"]
    assert first["candidate"] is None
    assert second["state"] == "ready"
    assert second["candidate"]["alias"] == "best"
    assert second["candidate"]["reason"].endswith(REASON)
    assert (await api.get("/models/m/versions/2.0")).value["candidate"] == second["candidate"]
    for version in ("latest", ">=1.0", "best"):
        answer = await succeed(api.post("/call", {**call, "version": version}))
        assert answer.value["version"] == "1.0"
    assert (await api.post("/call", {"x": [0] * 6})).value["version"] == "1.0"
    for version in ("2.0", "==2.0"):
        answer = await succeed(api.post("/call", {**call, "version": version}))
        assert answer.value["version"] == "2.0"
    ranked = (await api.post("/discover", {"name": "m"})).value["matches"]
    assert [match["version"] for match in ranked] == ["1.0", "2.0"]


async def test_where_there_are_candidates_alone_latest_says_so_and_what_to_do(api: Api) -> None:
    await store(api)
    await trained(api, "1.0", **HARD)
    assert (await api.get("/models/m")).value["latest"] is None
    for version in ("latest", ">=1.0"):
        reply = await api.post(
            "/call", {"model": "m", "version": version, "inputs": {"x": [0] * 6}}
        )
        assert reply.status == 404
        assert "the candidate 1.0: val_loss is" in reply.detail
        assert "aiaas models m:1.0 --release" in reply.detail
    assert (await api.post("/call", {"x": [0] * 6})).status == 404
    assert (await api.get("/models/m/versions/1.0")).status == 200


async def test_a_candidate_is_released_or_promoted_all_the_same(served: Served) -> None:
    api = served.api
    await store(api)
    for version in ("1.0", "2.0", "3.0"):
        await trained(api, version, **HARD)
    released = await succeed(api.post("/models/m/versions/1.0/release"))
    assert released.value["candidate"] is None
    assert (await api.get("/models/m")).value["latest"] == "1.0"
    await succeed(api.put("/models/m/aliases/trial", {"version": "2.0"}))
    assert (await api.get("/models/m")).value["latest"] == "1.0"  # not what it was refused
    await succeed(api.put("/models/m/aliases/best", {"version": "2.0"}))
    assert (await api.get("/models/m")).value["latest"] == "2.0"
    assert (await api.post("/models/m/versions/9/release")).status == 404


async def test_an_alias_that_moved_meanwhile_makes_no_candidate(served: Served) -> None:
    api = served.api
    await store(api)
    await trained(api, "1.0")
    slow = {**ORDER, "version": "2.0", "plan": {**PLAN, "epochs": 30}}
    order = {**slow, "register_as": {"alias": "best"}}
    job = (await succeed(api.post("/train", order))).value["job"]
    await succeed(api.put("/models/m/aliases/best", {"version": "1.0"}))
    await events(api, job)
    assert (await api.get(f"/jobs/{job}")).value["result"]["promoted"] is False
    assert (await api.get("/models/m")).value["latest"] == "2.0"
