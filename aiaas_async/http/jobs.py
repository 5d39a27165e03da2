"""/train and /jobs: start, look, follow (server-sent events), cancel, resume."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from aiaas_async.errors import InvalidError, StoppingError
from aiaas_async.http.exchange import (
    CONTROL_BYTES,
    PLATFORM,
    answer_codec,
    read_object,
    reply,
    whole_query,
)
from aiaas_async.jobs.board import render
from aiaas_async.jobs.record import TRANSITIONS
from aiaas_async.names import clip

_KEEPALIVE_S = 15.0


async def train(request: web.Request) -> web.StreamResponse:
    body, codec = await read_object(request, CONTROL_BYTES)
    platform = request.app[PLATFORM]
    job = await platform.training.start(platform.jobs, body)
    location = f"/jobs/{job.record.id}"
    return reply(codec, render(job), 202, Location=location)


async def list_jobs(request: web.Request) -> web.StreamResponse:
    limit = whole_query(request, "limit", 100, 1000)
    kind, state = request.query.get("kind"), request.query.get("state")
    if state is not None and state not in TRANSITIONS:
        raise InvalidError(f"?state= must be one of {', '.join(TRANSITIONS)}, got {clip(state)}")
    found = [
        render(job)
        for job in request.app[PLATFORM].jobs.all()
        if kind in (None, job.record.kind) and state in (None, job.record.state)
    ]
    return reply(answer_codec(request), {"jobs": found[:limit]})


async def show_job(request: web.Request) -> web.StreamResponse:
    job = request.app[PLATFORM].jobs.get(request.match_info["id"])
    return reply(answer_codec(request), {**render(job), "history": job.events.progress()})


async def cancel_job(request: web.Request) -> web.StreamResponse:
    job = await request.app[PLATFORM].jobs.cancel(request.match_info["id"])
    return reply(answer_codec(request), render(job))


async def resume_job(request: web.Request) -> web.StreamResponse:
    """A job that was cancelled or failed goes on: a training from its last checkpoint, bit for
    bit; a batch with the items that have no result yet, or were put since it was accepted."""
    job = await request.app[PLATFORM].jobs.resume(request.match_info["id"])
    return reply(answer_codec(request), render(job), 202)


async def follow_job(request: web.Request) -> web.StreamResponse:
    """Server-sent events (WHATWG HTML, section 9.2); Last-Event-ID resumes. Who has had the end is
    told 204, which keeps a browser from asking again."""
    job = request.app[PLATFORM].jobs.get(request.match_info["id"])
    after = _last_event(request)
    if job.events.has_ended_by(after):
        return web.Response(status=204)
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    )
    await response.prepare(request)
    events = job.events.follow(after)
    pending = asyncio.ensure_future(anext(events, None))
    stopping = asyncio.ensure_future(request.app[PLATFORM].stopping.wait())
    try:
        while not stopping.done():
            await asyncio.wait(
                [pending, stopping],
                timeout=_KEEPALIVE_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not pending.done():
                # A comment keeps proxies from closing, and shows us whether anyone is there.
                await response.write(b": still running\n\n")
                continue
            event = pending.result()
            if event is None:
                break
            data = json.dumps(event.data, allow_nan=False)
            text = f"id: {event.number}\nevent: {event.kind}\ndata: {data}\n\n"
            await response.write(text.encode())
            if event.kind == "end":
                break
            pending = asyncio.ensure_future(anext(events, None))
    finally:
        pending.cancel()
        stopping.cancel()
    await response.write_eof()
    return response


def _last_event(request: web.Request) -> int:
    raw = request.headers.get("Last-Event-ID", "0")
    if not raw.isascii() or not raw.isdigit() or len(raw) > 12:
        raise InvalidError(f"Last-Event-ID {clip(raw)} is not an event's id")
    if request.app[PLATFORM].stopping.is_set():
        raise StoppingError("shutting down", retry_after=5.0)
    return int(raw)
