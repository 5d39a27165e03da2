"""Jobs followed across broken connections and restarted servers."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from aiohttp import web

from aiaas_async import AsyncClient
from aiaas_async.client import UnreachableError
from aiaas_async.errors import (
    CancelledJobError,
    DeadlineError,
    DivergedError,
    NotFoundError,
    StoppingError,
)
from aiaas_async.jobs.events import Event
from tests.client.stub import QUICK, Answer, Stub, events, hang_up, refusal, value


def job(state: str = "running", starts: int = 1, **more: Any) -> dict[str, Any]:
    return {"job": "j", "kind": "train", "state": state, "starts": starts, **more}


def line(number: int, kind: str, /, **data: Any) -> str:
    text = msgspec.json.encode(data).decode()
    return f"id: {number}\nevent: {kind}\ndata: {text}\n\n"


DONE = line(9, "end", **job("succeeded"))


async def follow(client: AsyncClient) -> list[Event]:
    return [event async for event in client.follow("j")]


async def test_a_job_is_followed_from_its_first_event_to_its_end(
    client: AsyncClient, stub: Stub
) -> None:
    stub.will(value(job()), events(": still running\n\n", line(1, "progress", loss=0.5), DONE))
    found = await follow(client)
    assert [(event.number, event.kind) for event in found] == [(1, "progress"), (9, "end")]
    assert found[0].data == {"loss": 0.5}
    assert "Last-Event-ID" not in stub.asked[1].headers


async def broken_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write((line(1, "progress") + line(2, "progress")).encode() + b"id: 3\neve")
    return await hang_up(request)


@pytest.mark.parametrize(
    "break_", [broken_off, events(line(1, "progress"), line(2, "progress"), "id: 3\neve")]
)
async def test_a_broken_connection_is_resumed_after_the_last_whole_event(
    client: AsyncClient, stub: Stub, break_: Answer
) -> None:
    stub.will(value(job()), break_, value(job()), events(line(3, "progress"), DONE))
    assert [event.number for event in await follow(client)] == [1, 2, 3, 9]
    assert stub.asked[-1].headers["Last-Event-ID"] == "2"


@pytest.mark.parametrize("now", [job(starts=2), job("queued", starts=1)])
async def test_a_restarted_server_numbers_events_higher_and_none_is_missed(
    client: AsyncClient, stub: Stub, now: dict[str, Any]
) -> None:
    first = 1_000_000 * now["starts"] + 1
    stub.will(
        value(job()),
        events(line(50, "progress")),
        value(now),
        events(line(first, "progress"), line(first + 1, "end", **job("succeeded"))),
    )
    assert [event.number for event in await follow(client)] == [50, first, first + 1]
    assert stub.asked[-1].headers["Last-Event-ID"] == "50"


async def test_a_job_that_ended_while_nobody_was_connected_still_ends(
    client: AsyncClient, stub: Stub
) -> None:
    over = job("succeeded", result={"version": "1.0"}, error=None)
    stub.will(value(job()), events(line(5, "progress")), value({**over, "history": []}))
    last = (await follow(client))[-1]
    assert last.kind == "end"
    assert last.data["result"] == {"version": "1.0"}


async def test_a_server_that_breaks_and_stops_is_asked_again(
    client: AsyncClient, stub: Stub
) -> None:
    stopping = refusal(StoppingError("shutting down", retry_after=60.0))
    stub.will(
        value(job()),
        hang_up,
        stopping,
        stopping,
        value(job()),
        stopping,
        value(job()),
        events(DONE),
    )
    assert (await follow(client))[-1].kind == "end"


async def test_a_server_that_stays_away_is_given_up_after_the_timeout(stub: Stub) -> None:
    """Its socket is closed under a client that follows."""
    async with AsyncClient(stub.url, 0.3, QUICK) as client:
        stub.will(value(job()), events(line(1, "progress")))
        followed = client.follow("j")
        assert (await anext(followed)).number == 1
        client._transport.url = "http://127.0.0.1:1"
        with pytest.raises(UnreachableError):
            await anext(followed)


async def test_following_an_unknown_job_is_refused_at_once(client: AsyncClient, stub: Stub) -> None:
    stub.will(refusal(NotFoundError("no job has the id 'j'")))
    with pytest.raises(NotFoundError):
        await follow(client)
    assert len(stub.asked) == 1


async def test_leaving_a_followed_job_closes_the_connection(
    client: AsyncClient, stub: Stub
) -> None:
    stub.will(value(job()), events(line(1, "progress"), line(2, "progress"), DONE), value([]))
    followed = client.follow("j")
    await anext(followed)
    await followed.aclose()
    assert await client.ready()


async def test_waiting_gives_the_whole_job(client: AsyncClient, stub: Stub) -> None:
    whole = job("succeeded", result={"version": "1.0"}, request={"seed": 7})
    stub.will(value(job()), events(DONE), value(whole))
    assert await client.wait("j") == whole


@pytest.mark.parametrize(
    ("ended", "error"),
    [
        (
            job("failed", error={"code": "diverged", "message": "loss is nan", "details": {}}),
            DivergedError,
        ),
        (job("cancelled"), CancelledJobError),
    ],
)
async def test_waiting_raises_what_the_job_failed_with(
    client: AsyncClient, stub: Stub, ended: dict[str, Any], error: type[Exception]
) -> None:
    stub.will(value(job()), events(line(1, "end", **ended)), value(ended))
    with pytest.raises(error):
        await client.wait("j")


async def silent(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return await asyncio.Future()


async def test_waiting_has_an_end(client: AsyncClient, stub: Stub) -> None:
    stub.will(value(job()), silent)
    with pytest.raises(DeadlineError, match="not over within"):
        await client.wait("j", timeout=0.05)


async def test_silence_is_a_broken_connection(
    client: AsyncClient, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiaas_async.client.jobs.SILENCE_S", 0.01)
    stub.will(value(job()), silent, value(job()), events(DONE))
    assert (await follow(client))[-1].kind == "end"


async def test_jobs_are_listed_by_what_is_asked(client: AsyncClient, stub: Stub) -> None:
    stub.will(value({"jobs": [job()]}))
    assert await client.jobs(state="running") == [job()]
    assert stub.paths == ["GET /jobs?state=running"]
    stub.will(value(job("cancelled")))
    assert (await client.cancel("j"))["state"] == "cancelled"
    assert stub.paths[-1] == "DELETE /jobs/j"
