"""/train and /jobs: start, follow, cancel, and the version that comes out."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import numpy as np
import pytest

from aiaas_async.client.values import pack_all
from aiaas_async.wire.codecs import MSGPACK
from tests.http.api import Api
from tests.http.conftest import IN_COMMON, Served
from tests.http.models import V, commit_doubler, succeed
from tests.training.data import GRAPH, points
from tests.training.test_distributed import PLAIN

PLAN = {"epochs": 2, "batch_size": 16, "target": "y"}
ORDER: dict[str, Any] = {
    "model": "m",
    "version": "1.0",
    "dataset": "points",
    "graph": GRAPH,
    "plan": PLAN,
}


async def store(api: Api, count: int = 60) -> None:
    columns = {"x": {"dtype": "float32", "shape": [6]}, "y": {"dtype": "int64", "shape": []}}
    await succeed(api.put("/datasets/points", {"columns": columns}))
    if not count:
        return
    given = {name: array.tolist() for name, array in points(count).items()}
    await succeed(api.post("/datasets/points/items", {"columns": given}))


async def events(api: Api, job: str, **headers: str) -> list[dict[str, str]]:
    """A job's events, as fields, to the end."""
    async with api.session.get(f"{api.url}/jobs/{job}/events", headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        return [_fields(block) for block in (await response.text()).split("\n\n") if block]


def _fields(block: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in block.splitlines())


async def test_training_ends_in_a_version_with_its_lineage(api: Api) -> None:
    await store(api)
    started = await api.post("/train", ORDER)
    assert started.status == 202
    job = started.value["job"]
    assert started.headers["Location"] == f"/jobs/{job}"
    seen = await events(api, job)
    assert seen[-1]["event"] == "end"
    assert "progress" in [event["event"] for event in seen]
    shown = (await api.get(f"/jobs/{job}")).value
    assert shown["state"] == "succeeded"
    version = (await api.get(V.format("m"))).value
    assert version["state"] == "ready"
    assert version["lineage"]["job"] == job
    assert version["lineage"]["dataset_digest"]
    answer = await succeed(api.post("/call", {"x": [0] * 6}))
    assert answer.value["model"] == "m"


async def test_events_go_on_after_the_last_one_seen(served: Served) -> None:
    api = served.api
    await store(api)
    job = (await succeed(api.post("/train", ORDER))).value["job"]
    everything = await events(api, job)
    later = await events(api, job, **{"Last-Event-ID": everything[0]["id"]})
    assert later == everything[1:]


async def test_who_has_had_the_end_is_told_to_ask_no_more(served: Served) -> None:
    api = served.api
    await store(api)
    job = (await succeed(api.post("/train", ORDER))).value["job"]
    end = int((await events(api, job))[-1]["id"])
    for last in (end, end + 1):
        headers = {"Last-Event-ID": str(last)}
        async with (
            asyncio.timeout(5),
            api.session.get(f"{api.url}/jobs/{job}/events", headers=headers) as response,
        ):
            assert response.status == 204
            assert await response.read() == b""


async def test_who_follows_from_beyond_the_end_comes_to_an_end_with_the_job(
    served: Served,
) -> None:
    api = served.api
    await store(api)
    order = {**ORDER, "plan": {**PLAN, "epochs": 9999}}
    job = (await succeed(api.post("/train", order))).value["job"]
    headers = {"Last-Event-ID": "9" * 12}
    async with (
        asyncio.timeout(20),
        api.session.get(f"{api.url}/jobs/{job}/events", headers=headers) as response,
    ):
        await succeed(api.delete(f"/jobs/{job}"))
        assert response.status == 200
        assert await response.read() == b""


async def test_a_distributed_run_tells_of_each_node_its_gradients_and_its_speed(
    served: Served,
) -> None:
    api, plan = served.api, {**PLAN, "method": "distributed", "verify": True}
    await store(api)
    job = (await succeed(api.post("/train", {**ORDER, "graph": PLAIN, "plan": plan}))).value["job"]
    seen = [json.loads(e["data"]) for e in await events(api, job) if e["event"] == "progress"]
    shown = (await api.get(f"/jobs/{job}")).value
    assert [facts["epoch"] for facts in seen] == [1, 2]
    for facts in (*seen, shown["progress"]):
        assert facts["grad_norm"] > 0
        assert facts["samples_per_second"] > 0
        assert set(facts["nodes"]) == {"node-0", "node-1"}
        assert all(each["step_ms"] > 0 <= each["other_ms"] for each in facts["nodes"].values())
    assert shown["history"] == seen
    assert shown["result"]["verified"]["passed"]


@pytest.mark.parametrize("last", ["x", "-1", "9" * 13, "٣"])
async def test_an_event_id_that_is_none_is_refused(served: Served, last: str) -> None:
    api = served.api
    await store(api)
    job = (await succeed(api.post("/train", ORDER))).value["job"]
    reply = await api.get(f"/jobs/{job}/events", headers={"Last-Event-ID": last})
    assert (reply.status, reply.code) == (422, "invalid")


async def test_a_job_is_cancelled_and_commits_nothing(api: Api) -> None:
    await store(api)
    job = (await succeed(api.post("/train", {**ORDER, "plan": {**PLAN, "epochs": 9999}}))).value
    await succeed(api.delete(f"/jobs/{job['job']}"))
    assert (await events(api, job["job"]))[-1]["event"] == "end"
    assert (await api.get(f"/jobs/{job['job']}")).value["state"] == "cancelled"
    assert (await api.get("/models/m")).status == 404


async def test_jobs_are_listed_by_kind_and_state(api: Api) -> None:
    await store(api)
    job = (await succeed(api.post("/train", ORDER))).value["job"]
    await events(api, job)
    unknown = await api.get("/jobs?state=done")
    assert (unknown.status, unknown.code) == (422, "invalid")
    assert "one of queued, running, succeeded" in unknown.value["detail"]
    for query, found in (("", 1), ("?state=succeeded", 1), ("?state=failed", 0), ("?limit=0", 0)):
        assert len((await api.get(f"/jobs{query}")).value["jobs"]) == found
    assert (await api.get("/jobs?limit=1001")).status == 422


@IN_COMMON
@pytest.mark.parametrize(
    "change",
    [
        {"model": "../x"},
        {"version": "latest"},
        {"version": ""},
        {"dataset": 7},
        {"graph": None},
        {"graph": {}},
        {"graph": {"inputs": "x"}},
        {"parent": 5},
        {"plan": {"epochs": -1}},
        {"plan": {"epochs": "many"}},
        {"plan": {"speed": 1}},
        {"plan": 5},
        {"metadata": {"inputs": [{"name": "x", "dtype": "object"}]}},
        {"metadata": {"colour": "red"}},
        {"alias": "latest"},
        {"alias": "../x"},
        {"alias": "UPPER"},
        {"alias": "1.0"},
        {"alias": 5},
        {"what": 1},
    ],
)
async def test_a_wrong_order_is_refused_at_once(common_api: Api, change: dict[str, Any]) -> None:
    await store(common_api)
    reply = await common_api.post("/train", {**ORDER, **change})
    assert reply.status in (409, 422), reply.value
    assert (await common_api.get("/jobs")).value["jobs"] == []


async def test_unknown_things_are_404(api: Api) -> None:
    assert (await api.post("/train", ORDER)).status == 404
    for path in ("/jobs/nothing", "/jobs/nothing/events"):
        assert (await api.get(path)).status == 404
    assert (await api.delete("/jobs/nothing")).status == 404
    await store(api)
    order = {**ORDER, "graph": None, "parent": "nobody:1.0"}
    assert (await api.post("/train", order)).status == 404


async def test_a_committed_version_is_not_trained_over(api: Api) -> None:
    await store(api)
    await commit_doubler(api, "m")
    reply = await api.post("/train", ORDER)
    assert (reply.status, reply.code) == (409, "conflict")


async def test_an_empty_data_set_is_refused(api: Api) -> None:
    await store(api, 0)
    reply = await api.post("/train", ORDER)
    assert (reply.status, reply.code) == (422, "invalid")


async def test_columns_that_do_not_fit_are_refused_before_there_is_a_job(api: Api) -> None:
    await store(api)
    reply = await api.post("/train", {**ORDER, "plan": {**PLAN, "target": "z"}})
    assert (reply.status, reply.code) == (422, "invalid")
    assert "plan.target: the data set has no column 'z'" in reply.detail
    assert (await api.get("/jobs")).value["jobs"] == []


async def test_a_follower_who_leaves_does_not_stop_the_job(served: Served) -> None:
    api = served.api
    await store(api)
    order = {**ORDER, "plan": {**PLAN, "epochs": 9999}}
    job = (await succeed(api.post("/train", order))).value["job"]
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{api.url}/jobs/{job}/events") as response,
    ):
        await response.content.readline()
    assert (await api.get(f"/jobs/{job}")).value["state"] == "running"
    assert (await succeed(api.delete(f"/jobs/{job}"))).value["job"] == job


@pytest.mark.parametrize("method", ["sgd", "distributed"])
async def test_a_data_set_with_values_that_are_none_fails_the_job_and_is_named(
    served: Served, method: str
) -> None:
    api = served.speaking(MSGPACK)
    await store(api)
    x = np.zeros((2, 6), np.float32)
    x[1, 4] = np.nan
    items = {
        "keys": ["good", "bad"],
        "columns": pack_all({"x": x, "y": np.zeros(2, np.int64)}, "column"),
    }
    await succeed(api.post("/datasets/points/items", items))
    order = {**ORDER, "graph": PLAIN, "plan": {**PLAN, "method": method}}
    job = (await succeed(api.post("/train", order))).value["job"]
    await events(api, job)
    error = (await api.get(f"/jobs/{job}")).value["error"]
    assert error["code"] == "invalid"
    assert error["details"] == {"column": "x", "first_key": "bad", "items": 1}
    assert "first in item 'bad'" in error["message"]
