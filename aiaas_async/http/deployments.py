"""/deployments: where versions run, whole, replicated, or split over nodes."""

from __future__ import annotations

from aiohttp import web

from aiaas_async.errors import InvalidError
from aiaas_async.http.exchange import CONTROL_BYTES, PLATFORM, answer_codec, read_object, reply
from aiaas_async.names import clip
from aiaas_async.service.deployments import render


async def deploy(request: web.Request) -> web.StreamResponse:
    """Place a version by mode, split, nodes or replicas; with dry_run only the plan."""
    body, codec = await read_object(request, CONTROL_BYTES)
    dry_run = body.pop("dry_run", False)
    if not isinstance(dry_run, bool):
        raise InvalidError(f"'dry_run' must be true or false, got {clip(dry_run)}")
    deployments = request.app[PLATFORM].deployments
    if dry_run:
        return reply(codec, {"plan": await deployments.preview(body)})
    found = await deployments.deploy(body)
    return reply(codec, render(found), 201, Location=f"/deployments/{found.id}")


async def list_deployments(request: web.Request) -> web.StreamResponse:
    found = [render(each) for each in request.app[PLATFORM].deployments.all()]
    return reply(answer_codec(request), {"deployments": found})


async def show_deployment(request: web.Request) -> web.StreamResponse:
    found = request.app[PLATFORM].deployments.get(request.match_info["id"])
    return reply(answer_codec(request), render(found))


async def delete_deployment(request: web.Request) -> web.StreamResponse:
    await request.app[PLATFORM].deployments.delete(request.match_info["id"])
    return web.Response(status=204)
