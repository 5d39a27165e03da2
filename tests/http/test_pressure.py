"""Calls that wait: deadlines, full mailboxes, callers who leave, and a server that stops."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from aiaas_async.http.server import running_server
from aiaas_async.wire.codecs import JSON
from tests.http.api import Api, Reply
from tests.http.conftest import Served, settings
from tests.http.held import HeldWorkers
from tests.http.models import V, commit_doubler, doubler
from tests.http.raw import as_json, connected, json_post, read_reply

CALL = {"model": "doubler", "inputs": {"x": [1, 2, 3, 4]}}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0)


def load(served: Served) -> int:
    return sum(node.load for node in served.platform.cluster.nodes.values())


async def test_a_call_past_its_deadline_is_504(held: Served, workers: HeldWorkers) -> None:
    reply = await held.api.post("/call", {**CALL, "timeout_ms": 20})
    assert (reply.status, reply.code) == (504, "deadline")
    by_header = await held.api.post("/call", CALL, headers={"X-Deadline-Ms": "20"})
    assert (by_header.status, by_header.code) == (504, "deadline")


async def test_a_full_mailbox_is_503_with_a_time_and_those_inside_are_answered(
    held: Served, workers: HeldWorkers
) -> None:
    calls = [asyncio.create_task(held.api.post("/call", CALL)) for _ in range(8)]
    await until(lambda: _arrived(held) == 8 and any(call.done() for call in calls))
    refused = [call.result() for call in calls if call.done()]
    assert {(reply.status, reply.code) for reply in refused} == {(503, "overloaded")}
    assert all(int(reply.headers["Retry-After"]) >= 1 for reply in refused)
    workers.release()
    statuses = [reply.status for reply in await asyncio.gather(*calls)]
    # Two with the worker, two in the mailbox; less when they came before a place was free.
    assert 2 <= statuses.count(200) <= 4
    assert statuses.count(200) + statuses.count(503) == 8


async def test_who_hangs_up_gives_the_place_to_another(held: Served, workers: HeldWorkers) -> None:
    before = len(asyncio.all_tasks())
    body = as_json(CALL)
    for _ in range(20):  # ten times what fits
        async with connected(held.port) as (_, writer):
            seen = _arrived(held)
            writer.write(json_post("/call", f"Content-Length: {len(body)}") + body)
            await until(partial(_more_arrived, held, seen))
    workers.release()
    await until(lambda: load(held) == 0)
    await until(lambda: len(asyncio.all_tasks()) <= before)
    assert (await held.api.post("/call", CALL)).status == 200


def _arrived(served: Served) -> int:
    """Calls that came to the node, those it refused included."""
    mailbox: dict[str, int] = served.platform.cluster.nodes["node-0"].status()["mailbox"]
    return mailbox["accepted"] + mailbox["refused"]


def _more_arrived(served: Served, than: int) -> bool:
    return _arrived(served) > than


async def test_who_hangs_up_while_waiting_costs_no_compute(
    held: Served, workers: HeldWorkers
) -> None:
    busy = [asyncio.create_task(held.api.post("/call", CALL)) for _ in range(2)]
    await until(lambda: workers.held == 2)
    leaver = asyncio.create_task(held.api.post("/call", CALL))
    await until(lambda: load(held) == 3)
    leaver.cancel()
    statistics = held.platform.cluster.nodes["node-0"].statistics
    await until(lambda: leaver.done() and not _others_waiting(held))
    workers.release()
    assert [reply.status for reply in await asyncio.gather(*busy)] == [200, 200]
    await until(lambda: load(held) == 0)
    assert statistics.rows == 2


async def test_who_hangs_up_is_counted_and_logged_as_one_who_left(
    held: Served, workers: HeldWorkers, caplog: pytest.LogCaptureFixture
) -> None:
    doubler_is = 'model="doubler",version="1.0"'
    busy = [asyncio.create_task(held.api.post("/call", CALL)) for _ in range(2)]
    await until(lambda: workers.held == 2)
    with caplog.at_level(logging.INFO, "aiaas.access"):
        named = {"X-Request-Id": "leaver"}
        leaver = asyncio.create_task(held.api.post("/call", CALL, headers=named))
        await until(lambda: load(held) == 3)
        before = (await held.api.get("/metrics")).value.decode()
        assert f"nv_inference_pending_request_count{{{doubler_is}}} 1\n" in before
        leaver.cancel()
        await until(lambda: any("leaver" in line for line in caplog.messages))
    workers.release()
    await asyncio.gather(*busy)
    (line,) = [json.loads(text) for text in caplog.messages if "leaver" in text]
    assert (line["status"], line["path"], line["request_id"]) == (499, "/call", "leaver")
    after = (await held.api.get("/metrics")).value.decode()
    assert f"nv_inference_pending_request_count{{{doubler_is}}} 0\n" in after
    assert f'nv_inference_request_failure{{{doubler_is},reason="CANCELED"}} 1\n' in after
    assert 'aiaas_http_requests_total{method="POST",route="/call",status="499"} 1\n' in after


def _others_waiting(served: Served) -> bool:
    queue = served.platform.cluster.nodes["node-0"]._mailbox._queue
    return any(not item.abandoned for item in queue)


async def test_other_paths_answer_while_calls_wait(held: Served, workers: HeldWorkers) -> None:
    waiting = asyncio.create_task(held.api.post("/call", CALL))
    await until(lambda: workers.held == 1)
    assert (await held.api.get("/health/live")).status == 200
    assert (await held.api.post("/register", doubler("other"))).status == 200
    assert (await held.api.post(V.format("other") + "/commit")).status == 200
    assert (await held.api.get("/metrics")).status == 200
    workers.release()
    assert (await waiting).status == 200


async def test_a_server_that_stops_answers_what_is_under_way(scratch: Path) -> None:
    workers = HeldWorkers()
    async with aiohttp.ClientSession() as session:
        async with running_server(settings(scratch, grace_s=10.0), workers) as (platform, url):
            api = Api(session, url, JSON, str(scratch))
            await commit_doubler(api)
            under_way = asyncio.create_task(api.post("/call", CALL))
            await until(lambda: workers.held == 1)
            release = asyncio.create_task(_when(platform.stopping, workers))
        reply: Reply = await under_way
        await release
    assert reply.status == 200
    assert reply.value["outputs"]["doubled"] == [2, 4, 6, 8]


async def _when(stopping: asyncio.Event, workers: HeldWorkers) -> None:
    await stopping.wait()
    workers.release()


@pytest.mark.parametrize("held", [{"in_flight_body_mb": 1}], indirect=True)
async def test_bodies_are_bounded_in_their_sum_until_they_are_answered(
    held: Served, workers: HeldWorkers
) -> None:
    batch = as_json({"model": "doubler", "inputs": {"x": [[1, 2, 3, 4]] * 60_000}})
    assert 500_000 < len(batch) < 1_000_000
    first = asyncio.create_task(held.api.post("/call", raw=batch))
    await until(lambda: workers.held == 1)
    second = await held.api.post("/call", raw=batch)
    assert (second.status, second.code) == (503, "overloaded")
    assert int(second.headers["Retry-After"]) >= 1
    assert "bytes of requests are not answered or of replies not read yet" in second.detail
    workers.release()
    assert (await first).status == 200
    assert (await held.api.post("/call", raw=batch)).status == 200
    metrics = (await held.api.get("/metrics")).value.decode()
    assert "\naiaas_http_body_bytes_in_flight 0\n" in metrics


@pytest.mark.parametrize("held", [{"in_flight_body_mb": 2, "max_body_mb": 16}], indirect=True)
async def test_while_replies_that_nobody_reads_use_up_the_budget_nobody_new_is_served(
    held: Served, workers: HeldWorkers
) -> None:
    workers.release()
    batch = as_json({"model": "doubler", "inputs": {"x": [[1, 2, 3, 4]] * 1_000_000}})
    async with connected(held.port, window=4096) as (reader, writer):
        writer.write(json_post("/call", f"Content-Length: {len(batch)}") + batch)
        assert b" 200 OK" in await reader.readuntil(b"\r\n\r\n")
        refused = await held.api.post("/call", CALL)
        assert (refused.status, refused.code) == (503, "overloaded")
        assert "replies not read yet" in refused.detail
        assert (await held.api.get("/health/live")).status == 200
    async with asyncio.timeout(10):
        while await _held_bytes(held):
            pass
    assert (await held.api.post("/call", CALL)).status == 200


async def _held_bytes(served: Served) -> float:
    text = (await served.api.get("/metrics")).value.decode()
    return float(text.partition("\naiaas_http_body_bytes_in_flight ")[2].partition("\n")[0])


async def test_a_slow_reader_gets_all_of_its_answer(held: Served, workers: HeldWorkers) -> None:
    workers.release()
    batch = as_json({"model": "doubler", "inputs": {"x": [[1, 2, 3, 4]] * 20_000}})
    async with connected(held.port) as (reader, writer):
        writer.write(json_post("/call", f"Content-Length: {len(batch)}") + batch)
        reply = await read_reply(reader)
    assert reply.status == 200
    assert len(JSON.decode(reply.value)["outputs"]["doubled"]) == 20_000
