"""Warm-up over HTTP: a version's own requests go before its callers'."""

from __future__ import annotations

from tests.http.conftest import Served
from tests.http.models import OCTETS, V, doubler, succeed
from tests.http.raw import as_json

PATH = V.format("doubler")


async def put(served: Served, body: object, name: str = "warmup/first.json") -> None:
    await succeed(served.api.post("/register", doubler()))
    sent = served.api.put(f"{PATH}/files/{name}", raw=as_json(body), headers=OCTETS)
    await succeed(sent)


async def test_a_commit_with_a_request_that_does_not_fit_is_refused(served: Served) -> None:
    await put(served, {"inputs": {"x": [1, 2]}})
    reply = await served.api.post(PATH + "/commit")
    assert (reply.status, reply.code) == (422, "invalid_artifact")
    assert "'warmup/first.json' fails: input 'x' expects" in reply.detail
    assert (await served.api.get(PATH)).value["state"] == "registered"


async def test_a_version_with_requests_is_loaded_called_and_deployed(served: Served) -> None:
    await put(served, {"x": [1, 2, 3, 4]})
    await succeed(served.api.post(PATH + "/commit"))
    call = {"model": "doubler", "inputs": {"x": [1, 2, 3, 4]}}
    reply = await succeed(served.api.post("/call", call))
    assert reply.value["outputs"] == {"doubled": [2, 4, 6, 8]}
    await succeed(served.api.post("/deployments", {"model": "doubler", "replicas": 2}))
