"""Tenants over HTTP: who says so, what is refused, and a flood that costs another nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aiaas_async import AsyncClient
from aiaas_async.errors import InvalidNameError
from aiaas_async.node.node import Node
from aiaas_async.node.work import Message, WorkItem
from aiaas_async.schedule.origin import A_CALL, Origin
from tests.http.api import Api, Reply
from tests.http.conftest import Served
from tests.http.examples import EXAMPLES, RUNTIMES
from tests.http.held import HeldWorkers
from tests.http.models import doubler
from tests.http.v2server import serving
from tests.http.writers import RUNTIMES as WRITERS
from tests.http.writers import WRITER

SEQUENCE = "simple_string_dyna_sequence"
CALL: dict[str, Any] = {"model": "doubler", "inputs": {"x": [1, 2, 3, 4]}}


async def flooded(served: Served) -> list[asyncio.Task[Reply]]:
    """Calls of the tenant "flood" until one is refused."""
    calls: list[asyncio.Task[Reply]] = []
    mailbox = _mailbox(served)
    start = mailbox["accepted"]
    async with asyncio.timeout(10):
        while not mailbox["refused"]:
            calls.append(
                asyncio.create_task(served.api.post("/call", CALL, headers={"X-Tenant": "flood"}))
            )
            while mailbox["accepted"] + mailbox["refused"] - start < len(calls):
                await asyncio.sleep(0)
                mailbox = _mailbox(served)
            for _ in range(50):  # what waits goes to the worker, if there is room
                await asyncio.sleep(0)
    return calls


def _mailbox(served: Served) -> dict[str, Any]:
    (node,) = served.platform.cluster.nodes.values()
    facts: dict[str, Any] = node.status()["mailbox"]
    return facts


async def test_a_flood_of_one_tenant_leaves_another_its_place(
    held: Served, workers: HeldWorkers
) -> None:
    flood = await flooded(held)
    other = asyncio.create_task(held.api.post("/call", {**CALL, "tenant": "other"}))
    async with asyncio.timeout(10):
        while not any(call.done() and call.result().status == 429 for call in flood):  # noqa: ASYNC110
            await asyncio.sleep(0)
    workers.release()
    assert (await other).status == 200
    replies = await asyncio.gather(*flood)
    refused = [reply for reply in replies if reply.status == 429]
    assert [(reply.code, int(reply.headers["Retry-After"]) >= 1) for reply in refused] == [
        ("quota", True)
    ]
    assert {reply.status for reply in replies} == {200, 429, 503}


@pytest.mark.parametrize("name", ["", "A", "a b", "x" * 65])
async def test_a_tenant_has_a_name_like_any_other(api: Api, name: str) -> None:
    by_header = await api.post("/call", {"x": [1]}, headers={"X-Tenant": name})
    by_field = await api.post("/call", {"inputs": {"x": [1]}, "tenant": name})
    by_job = await api.post("/batch", {"model": "m", "dataset": "d", "tenant": name})
    for reply in (by_header, by_field, by_job):
        assert (reply.status, reply.code) == (422, "invalid_name")
        assert "tenant" in reply.detail


async def test_a_tenant_that_is_no_text_is_refused(api: Api) -> None:
    assert (await api.post("/call", {"inputs": {"x": [1]}, "tenant": 5})).status == 422
    assert (await api.post("/batch", {"model": "m", "dataset": "d", "tenant": 5})).status == 422


ASKED: list[tuple[str, dict[str, Any]]] = [
    ("/call", CALL),
    ("/models/doubler/versions/1.0/loss", {**CALL, "targets": {"doubled": [1, 2, 3, 4]}}),
    ("/v2/models/writer/generate", {"text_input": "a b", "repeat": 1}),
    ("/v2/models/writer/generate_stream", {"text_input": "a b", "repeat": 1}),
    (
        f"/v2/models/{SEQUENCE}/infer",
        {
            "inputs": [{"name": "INPUT", "datatype": "INT32", "shape": [1, 1], "data": [1]}],
            "parameters": {"sequence_id": "7", "sequence_start": True, "sequence_end": True},
        },
    ),
]


@pytest.mark.parametrize(("path", "body"), ASKED, ids=[path for path, _ in ASKED])
async def test_whatever_is_asked_waits_as_its_tenants_work(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    seen: list[Origin] = []
    submit = Node.submit

    def noted(node: Node, message: Message, cost: int, deadline: float | None, *more: Any) -> Any:
        seen.append(*more or (A_CALL,))
        return submit(node, message, cost, deadline, *more)

    async with serving(scratch, {**RUNTIMES, **WRITERS}, doubler(), WRITER, *EXAMPLES[-3:]) as held:
        monkeypatch.setattr(Node, "submit", noted)
        answer = await held.api.post(path, body, headers={"X-Tenant": "shop"})
    assert answer.status == 200, answer.value
    assert {origin.tenant for origin in seen} == {"shop"}


async def test_a_clients_tenant_goes_with_all_it_asks(
    held: Served, workers: HeldWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers.release()
    (node,) = held.platform.cluster.nodes.values()
    seen: list[str] = []
    submit = node.submit

    def noted(*asked: Any) -> WorkItem:
        seen.append(asked[3].tenant)
        return submit(*asked)

    monkeypatch.setattr(node, "submit", noted)
    async with AsyncClient(held.url, tenant="shop") as client:
        await client.call({"x": [1.0, 2.0, 3.0, 4.0]}, model="doubler")
    monkeypatch.setenv("AIAAS_TENANT", "lab")
    async with AsyncClient(held.url) as client:
        await client.call({"x": [1.0, 2.0, 3.0, 4.0]}, model="doubler")
    assert seen == ["shop", "lab"]
    with pytest.raises(InvalidNameError, match="tenant"):
        AsyncClient(held.url, tenant="Not A Name")
