"""/batch: a job whose results are read from the data set they land in."""

from __future__ import annotations

from tests.http.api import Api
from tests.http.models import BARE_CALL, commit_doubler, succeed
from tests.http.test_jobs import events

COLUMNS = {"columns": {"x": {"dtype": "float32", "shape": [4]}}}
ORDER = {"model": "doubler", "dataset": "things", "output_dataset": "results"}


async def store(api: Api, count: int) -> None:
    await commit_doubler(api)
    await succeed(api.put("/datasets/things", COLUMNS))
    if count:
        keys = [f"k{number}" for number in range(count)]
        body = {"keys": keys, "columns": {"x": [BARE_CALL] * count}}
        await succeed(api.post("/datasets/things/items", body))


async def test_a_batch_job_leaves_each_result_under_the_key_of_its_item(api: Api) -> None:
    await store(api, 20)
    started = await api.post("/batch", ORDER)
    assert started.status == 202
    job = started.value["job"]
    assert started.headers["Location"] == f"/jobs/{job}"
    assert (await events(api, job))[-1]["event"] == "end"
    shown = (await api.get(f"/jobs/{job}")).value
    assert (shown["state"], shown["kind"]) == ("succeeded", "batch")
    assert shown["result"]["done"] == shown["progress"]["done"] == 20
    assert (await api.get("/datasets/results")).value["count"] == 20
    item = (await api.get("/datasets/results/items?key=k7")).value
    assert list(item["columns"]) == ["doubled"]


async def test_what_cannot_work_is_refused_and_nothing_is_left(api: Api) -> None:
    await store(api, 0)
    empty = await api.post("/batch", ORDER)
    assert (empty.status, empty.code) == (422, "invalid")
    assert "empty" in empty.detail
    missing = await api.post("/batch", {**ORDER, "dataset": "nothing"})
    assert (missing.status, missing.code) == (404, "not_found")
    unknown = await api.post("/batch", {**ORDER, "assignment": "best"})
    assert unknown.status == 422
    assert (await api.get("/jobs")).value["jobs"] == []
    assert (await api.get("/datasets/results")).status == 404
