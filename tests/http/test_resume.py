"""Jobs that were cancelled, or failed, go on where they ended; or say why they cannot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.http.api import Api, Reply
from tests.http.conftest import Served, serving
from tests.http.models import commit_doubler, succeed
from tests.http.test_jobs import ORDER, PLAN, events, store
from tests.service.gate import Gate
from tests.training.data import points

LONG = {**ORDER, "plan": {**PLAN, "epochs": 300}}


async def begun(api: Api, order: dict[str, Any] = LONG) -> str:
    """A training job that has told of an epoch."""
    job: str = (await succeed(api.post("/train", order))).value["job"]
    async with api.session.get(f"{api.url}/jobs/{job}/events") as response:
        async for line in response.content:
            if line.startswith(b"event: progress"):
                return job
    raise AssertionError("the job ended without a word")


async def cancelled(api: Api, order: dict[str, Any] = LONG) -> str:
    """A training job that was cancelled in its midst."""
    job = await begun(api, order)
    facts = (await succeed(api.delete(f"/jobs/{job}"))).value
    assert facts["state"] == "cancelled"
    assert "a checkpoint is kept" in facts["error"]["message"]
    return job


async def resume(api: Api, job: str) -> Reply:
    return await api.post(f"/jobs/{job}/resume")


async def weights(api: Api, version: str) -> dict[str, str]:
    """SHA-256 of a version's files."""
    facts = (await api.get(f"/models/m/versions/{version}")).value
    return {entry["path"]: entry["sha256"] for entry in facts["files"]}


async def test_a_cancelled_training_that_is_resumed_ends_in_the_same_weights(
    served: Served,
) -> None:
    api = served.api
    await store(api)
    whole = (await succeed(api.post("/train", LONG))).value["job"]
    await events(api, whole)
    job = await cancelled(api, {**LONG, "version": "2.0"})
    reply = await resume(api, job)
    assert reply.status == 202
    assert reply.value["state"] == "queued"
    assert (await events(api, job))[-1]["event"] == "end"
    shown = (await api.get(f"/jobs/{job}")).value
    assert (shown["state"], shown["starts"], shown["error"]) == ("succeeded", 2, None)
    assert any("resumed" in told for told in shown["history"])
    assert await weights(api, "2.0") == await weights(api, "1.0")
    alone = (await api.get(f"/jobs/{whole}")).value["result"]
    assert shown["result"]["metrics"] == alone["metrics"]


async def test_a_compaction_meanwhile_changes_nothing(served: Served) -> None:
    api = served.api
    await store(api)
    await store(api)  # every item replaced by itself: half of the files is waste
    job = await cancelled(api)
    await succeed(api.post("/datasets/points/compact"))
    await succeed(resume(api, job))
    await events(api, job)
    assert (await api.get(f"/jobs/{job}")).value["state"] == "succeeded"


async def test_a_training_is_not_resumed_on_other_items(served: Served) -> None:
    api = served.api
    await store(api)
    job = await cancelled(api)
    more = {name: array[:1].tolist() for name, array in points(1, seed=9).items()}
    await succeed(api.post("/datasets/points/items", {"columns": more, "keys": ["new"]}))
    reply = await resume(api, job)
    assert (reply.status, reply.code) == (409, "conflict")
    assert "data set points has changed since job" in reply.detail
    assert (await api.get(f"/jobs/{job}")).value["state"] == "cancelled"
    await succeed(api.delete("/datasets/points/items?key=new"))
    await succeed(resume(api, job))  # the same items as ever
    await succeed(api.delete(f"/jobs/{job}"))
    await succeed(api.delete("/datasets/points"))
    assert "no data set is called 'points'" in (await resume(api, job)).detail


async def test_a_version_that_was_committed_meanwhile_is_not_trained_over(served: Served) -> None:
    api = served.api
    await store(api)
    job = await cancelled(api)
    await succeed(api.post("/train", {**ORDER, "version": "1.0"}))
    await events(api, (await api.get("/jobs")).value["jobs"][0]["job"])
    reply = await resume(api, job)
    assert reply.status == 409
    assert "m:1.0 is committed already" in reply.detail


async def test_a_job_that_ended_before_its_first_checkpoint_says_so(served: Served) -> None:
    api = served.api
    await store(api)
    first = await begun(api)
    waiting = (await succeed(api.post("/train", {**LONG, "version": "2.0"}))).value["job"]
    await succeed(api.delete(f"/jobs/{waiting}"))
    reply = await resume(api, waiting)
    assert reply.status == 409
    assert f"job {waiting} left no checkpoint" in reply.detail
    assert "is running; only one that was cancelled or failed" in (await resume(api, first)).detail
    await succeed(api.delete(f"/jobs/{first}"))
    assert (await resume(api, "nothing")).status == 404


async def things(api: Api, count: int) -> None:
    columns = {"x": {"dtype": "float32", "shape": [4]}}
    await succeed(api.put("/datasets/things", {"columns": columns}))
    values = np.arange(4.0 * count).reshape(count, 4).tolist()
    await succeed(api.post("/datasets/things/items", {"columns": {"x": values}}))


BATCH = {"model": "doubler", "dataset": "things", "output_dataset": "twice", "task_items": 5}


@asynccontextmanager
async def half_done(folder: Path) -> AsyncIterator[tuple[Served, str]]:
    """A batch job that was cancelled when some of its 500 items had results."""
    gate = Gate(after=10)
    async with serving(folder, gate) as served:
        api = served.api
        await commit_doubler(api)
        await things(api, 500)
        job: str = (await succeed(api.post("/batch", BATCH))).value["job"]
        await gate.reached.wait()
        await succeed(api.delete(f"/jobs/{job}"))
        gate.open.set()
        yield served, job


async def test_a_cancelled_batch_says_where_its_results_are_and_a_resume_does_the_rest(
    scratch: Path,
) -> None:
    async with half_done(scratch) as (served, job):
        api = served.api
        shown = (await api.get(f"/jobs/{job}")).value
        assert shown["state"] == "cancelled"
        stored = (await api.get("/datasets/twice")).value["count"]
        assert 0 < stored < 500
        assert shown["error"]["details"] == {"output_dataset": "twice", "stored": stored}
        assert f"{stored} results are in data set twice" in shown["error"]["message"]
        await succeed(resume(api, job))
        await events(api, job)
        result = (await api.get(f"/jobs/{job}")).value["result"]
        assert (result["done"], result["skipped"]) == (500, stored)
        assert (await api.get("/datasets/twice")).value["count"] == 500


async def test_a_batch_is_not_resumed_into_what_is_gone_or_another_s(scratch: Path) -> None:
    async with half_done(scratch) as (served, job):
        api = served.api
        await succeed(api.delete("/datasets/twice"))
        assert "data set twice, which held the results of job" in (await resume(api, job)).detail
        other = await served.platform.batch.start(served.platform.jobs, dict(BATCH))
        claimed = f"job {other.record.id} writes to data set twice"
        assert claimed in (await resume(api, job)).detail


async def test_a_batch_is_not_resumed_over_a_data_set_that_was_made_anew(scratch: Path) -> None:
    async with half_done(scratch) as (served, job):
        api = served.api
        await succeed(api.delete("/datasets/things"))
        await things(api, 500)
        reply = await resume(api, job)
        assert (reply.status, reply.code) == (409, "conflict")
        assert f"data set things is another one than job {job} began with" in reply.detail


async def test_the_time_of_a_batch_begins_anew_when_it_is_resumed(scratch: Path) -> None:
    gate = Gate(after=10)
    async with serving(scratch, gate) as served:
        api = served.api
        await commit_doubler(api)
        await things(api, 500)
        job = (await succeed(api.post("/batch", {**BATCH, "timeout_s": 0.3}))).value["job"]
        await events(api, job)
        shown = (await api.get(f"/jobs/{job}")).value
        assert shown["error"]["code"] == "deadline"
        assert "resume the job to have it filled, or delete it" in shown["error"]["message"]
        gate.open.set()
        again = (await succeed(resume(api, job))).value
        assert again["request"]["timeout_s"] == 0.3
        record = served.platform.jobs.get(job).record
        assert record.request["_end_at"] > shown["finished_at"]
        await events(api, job)
