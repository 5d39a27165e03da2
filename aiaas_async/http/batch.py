"""/batch: a model over a data set, as a job; /jobs shows and cancels it."""

from __future__ import annotations

from aiohttp import web

from aiaas_async.http.exchange import CONTROL_BYTES, PLATFORM, read_object, reply, tenant_of
from aiaas_async.jobs.board import render


async def start_batch(request: web.Request) -> web.StreamResponse:
    """Run a model over every item of a data set; results land in another under the same keys."""
    body, codec = await read_object(request, CONTROL_BYTES)
    platform = request.app[PLATFORM]
    body = {"tenant": tenant_of(request), **body}
    job = await platform.batch.start(platform.jobs, body)
    return reply(codec, render(job), 202, Location=f"/jobs/{job.record.id}")
