"""/nodes and /ring: where things run."""

from __future__ import annotations

from aiohttp import web

from aiaas_async.errors import InvalidError
from aiaas_async.http.exchange import PLATFORM, answer_codec, reply


async def list_nodes(request: web.Request) -> web.StreamResponse:
    nodes = request.app[PLATFORM].cluster.nodes
    return reply(answer_codec(request), {"nodes": [node.status() for node in nodes.values()]})


async def show_node(request: web.Request) -> web.StreamResponse:
    node = request.app[PLATFORM].cluster.node(request.match_info["id"])
    return reply(answer_codec(request), node.status())


async def explain_ring(request: web.Request) -> web.StreamResponse:
    """Where ?key= goes, and why."""
    key = request.query.get("key", "")
    if not 1 <= len(key) <= 256:
        raise InvalidError("?key= must be 1 to 256 characters")
    return reply(answer_codec(request), request.app[PLATFORM].cluster.explain(key))
