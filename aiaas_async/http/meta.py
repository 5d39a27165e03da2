"""What the server says of itself: alive, ready, metrics, the description of its paths."""

from __future__ import annotations

from aiohttp import web

from aiaas_async.errors import StoppingError
from aiaas_async.http.exchange import BUDGET, PLATFORM, answer_codec, reply
from aiaas_async.http.exposition import CONTENT_TYPE
from aiaas_async.http.metrics import exposition
from aiaas_async.http.request import ROUTER
from aiaas_async.http.routing import ANY
from aiaas_async.http.tally import TALLY


async def live(request: web.Request) -> web.StreamResponse:
    """200 whenever the event loop turns."""
    return reply(answer_codec(request), {"live": True})


async def ready(request: web.Request) -> web.StreamResponse:
    """200 while requests are taken and every node has a worker; else 503 with what is missing."""
    platform = request.app[PLATFORM]
    if platform.stopping.is_set():
        raise StoppingError("shutting down", retry_after=5.0)
    states = {node.id: node.status()["state"] for node in platform.cluster.nodes.values()}
    waiting = [node_id for node_id, state in states.items() if state != "serving"]
    if waiting:
        raise StoppingError(f"not ready: {', '.join(waiting)} without a worker", retry_after=1.0)
    return reply(answer_codec(request), {"ready": True, "nodes": states})


async def metrics(request: web.Request) -> web.StreamResponse:
    """Prometheus text format."""
    app = request.app
    body = await exposition(app[PLATFORM], app[TALLY], app[BUDGET])
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


async def openapi(request: web.Request) -> web.StreamResponse:
    """The paths of this server, as OpenAPI 3.1."""
    from aiaas_async.http.openapi import describe  # noqa: PLC0415 - only for /openapi.json

    routes = [route for route in request.app[ROUTER].routes if route[0] != ANY]
    return reply(answer_codec(request), describe(routes))
