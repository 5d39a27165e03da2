"""/deployments: where versions run, whole, replicated, or split over nodes."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from aiaas_async.errors import InvalidError
from aiaas_async.http.exchange import CONTROL_BYTES, PLATFORM, answer_codec, read_object, reply
from aiaas_async.names import clip
from aiaas_async.service.deployment import Deployment, render
from aiaas_async.service.standing import Standings


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
    standings = request.app[PLATFORM].cluster.standings()
    return reply(codec, _rendered(found, standings), 201, Location=f"/deployments/{found.id}")


async def list_deployments(request: web.Request) -> web.StreamResponse:
    standings = request.app[PLATFORM].cluster.standings()
    found = [_rendered(each, standings) for each in request.app[PLATFORM].deployments.all()]
    return reply(answer_codec(request), {"deployments": found})


async def show_deployment(request: web.Request) -> web.StreamResponse:
    platform = request.app[PLATFORM]
    found = platform.deployments.get(request.match_info["id"])
    return reply(answer_codec(request), _rendered(found, platform.cluster.standings()))


async def delete_deployment(request: web.Request) -> web.StreamResponse:
    await request.app[PLATFORM].deployments.delete(request.match_info["id"])
    return web.Response(status=204)


def _rendered(deployment: Deployment, standings: Standings) -> dict[str, Any]:
    """One that stands ready is not, while its nodes refuse its version."""
    facts = {**render(deployment), "quarantined_until": None}
    held = standings.quarantined(deployment.ref)
    if held is None or deployment.state != "ready":
        return facts
    return {**facts, "state": held.state, "reason": held.reason, "quarantined_until": held.until}
