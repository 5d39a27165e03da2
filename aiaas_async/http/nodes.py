"""/nodes and /ring: where things run, and how nodes come and go."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from aiaas_async.errors import InvalidError
from aiaas_async.http.exchange import CONTROL_BYTES, PLATFORM, answer_codec, read_object, reply
from aiaas_async.names import clip


async def list_nodes(request: web.Request) -> web.StreamResponse:
    return reply(answer_codec(request), {"nodes": request.app[PLATFORM].cluster.statuses()})


async def show_node(request: web.Request) -> web.StreamResponse:
    cluster = request.app[PLATFORM].cluster
    return reply(answer_codec(request), cluster.status(request.match_info["id"]))


async def add_node(request: web.Request) -> web.StreamResponse:
    """A node joins the ring; body `{id?}`."""
    body: dict[str, Any] = {}
    codec = answer_codec(request)
    if request.can_read_body:
        body, codec = await read_object(request, CONTROL_BYTES)
    for field in body:
        if field != "id":
            raise InvalidError(f"a node has no field {clip(field)}; give 'id', or nothing")
    facts = await request.app[PLATFORM].membership.join(body.get("id"))
    return reply(codec, facts, 201, Location=f"/nodes/{facts['id']}")


async def remove_node(request: web.Request) -> web.StreamResponse:
    """A node drains and leaves; the answer comes when it has. With `?force=true` also one that a
    deployment needs."""
    force = request.query.get("force", "false")
    if force not in ("true", "false"):
        raise InvalidError(f"?force= must be true or false, got {clip(force)}")
    membership = request.app[PLATFORM].membership
    facts = await membership.leave(request.match_info["id"], force=force == "true")
    return reply(answer_codec(request), facts)


async def explain_ring(request: web.Request) -> web.StreamResponse:
    """Where ?key= goes and why, and what would move if a node left: not what is `damaged`."""
    key = request.query.get("key", "")
    if not 1 <= len(key) <= 256:
        raise InvalidError(f"a key has 1 to 256 characters, got {len(key)}")
    return reply(answer_codec(request), await request.app[PLATFORM].membership.explain(key))
