"""The server: every route in one table, wrapped alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, cast

from aiohttp import web

from aiaas_async.errors import MethodError, NotFoundError
from aiaas_async.http import (
    batch,
    datasets,
    deployments,
    jobs,
    meta,
    models,
    nodes,
    open_inference,
    seed,
)
from aiaas_async.http.budget import BodyBudget
from aiaas_async.http.exchange import BUDGET, PLATFORM, answering
from aiaas_async.http.request import ROUTER, Handler, found_by, front, requests_of
from aiaas_async.http.routing import ANY, Router
from aiaas_async.http.tally import TALLY, Tally
from aiaas_async.http.traced import traced
from aiaas_async.http.v2exchange import answering as answering_v2
from aiaas_async.http.v2logging import LOGS, Logs
from aiaas_async.http.v2models import V2, OpenInference
from aiaas_async.http.v2trace import FOLDER as TRACES
from aiaas_async.http.v2trace import TRACER, Tracer
from aiaas_async.names import clip
from aiaas_async.service.platform import Platform

_VERSION = "/models/{name}/versions/{version}"

ROUTES: Final[list[tuple[str, str, Handler]]] = [
    ("POST", "/register", seed.register),
    ("POST", "/discover", seed.discover),
    ("POST", "/call", seed.call),
    ("GET", "/models", models.list_models),
    ("GET", "/models/{name}", models.show_model),
    ("DELETE", "/models/{name}", models.delete_model),
    ("GET", _VERSION, models.show_version),
    ("DELETE", _VERSION, models.delete_version),
    ("PUT", _VERSION + "/files/{path:.*}", models.put_file),
    ("GET", _VERSION + "/files/{path:.*}", models.get_file),
    ("POST", _VERSION + "/commit", models.commit),
    ("POST", _VERSION + "/release", models.release),
    ("POST", _VERSION + "/load", models.load),
    ("POST", _VERSION + "/unload", models.unload),
    ("POST", _VERSION + "/loss", models.loss),
    ("POST", _VERSION + "/gradient", models.gradient),
    ("GET", "/models/{name}/aliases/{alias}", models.get_alias),
    ("PUT", "/models/{name}/aliases/{alias}", models.put_alias),
    ("DELETE", "/models/{name}/aliases/{alias}", models.delete_alias),
    ("POST", "/models/{name}/aliases/{alias}/rollback", models.roll_back_alias),
    ("GET", "/datasets", datasets.list_datasets),
    ("GET", "/datasets/{name}", datasets.show_dataset),
    ("PUT", "/datasets/{name}", datasets.put_dataset),
    ("DELETE", "/datasets/{name}", datasets.delete_dataset),
    ("GET", "/datasets/{name}/items", datasets.get_items),
    ("POST", "/datasets/{name}/compact", datasets.compact_dataset),
    ("POST", "/datasets/{name}/items", datasets.post_items),
    ("DELETE", "/datasets/{name}/items", datasets.delete_items),
    ("GET", "/deployments", deployments.list_deployments),
    ("POST", "/deployments", deployments.deploy),
    ("GET", "/deployments/{id}", deployments.show_deployment),
    ("DELETE", "/deployments/{id}", deployments.delete_deployment),
    ("POST", "/train", jobs.train),
    ("POST", "/batch", batch.start_batch),
    ("GET", "/jobs", jobs.list_jobs),
    ("GET", "/jobs/{id}", jobs.show_job),
    ("DELETE", "/jobs/{id}", jobs.cancel_job),
    ("GET", "/jobs/{id}/events", jobs.follow_job),
    ("POST", "/jobs/{id}/resume", jobs.resume_job),
    ("GET", "/nodes", nodes.list_nodes),
    ("POST", "/nodes", nodes.add_node),
    ("GET", "/nodes/{id}", nodes.show_node),
    ("DELETE", "/nodes/{id}", nodes.remove_node),
    ("GET", "/ring", nodes.explain_ring),
    ("GET", "/health/live", meta.live),
    ("GET", "/health/ready", meta.ready),
    ("GET", "/metrics", meta.metrics),
    ("GET", "/openapi.json", meta.openapi),
]


def make_server(platform: Platform, budget: BodyBudget) -> web.Server:
    """aiohttp's low-level server, for connections to `platform` that share `budget`."""
    # Every handler is wrapped by `answering`, and what no route takes is one too.
    app = web.Application()
    app[PLATFORM] = platform
    app[BUDGET] = budget
    app[V2] = OpenInference()
    app[LOGS] = Logs()
    app[TRACER] = Tracer(platform.settings.folder / TRACES)
    app[TALLY] = tally = Tally()
    traces = platform.tracing
    rows = [
        *((answering, *row) for row in [*ROUTES, (ANY, "/{path:.*}", _unrouted)]),
        *((answering_v2, *row) for row in open_inference.ROUTES),
    ]
    app[ROUTER] = Router(
        [
            (method, path, traced(wrap(handler, tally.route(method, path)), traces, method, path))
            for wrap, method, path, handler in rows
        ]
    )
    app.freeze()
    # Who hangs up no longer waits for an answer.
    handle = cast(Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], front)
    server = web.Server(handle, request_factory=requests_of(app), handler_cancellation=True)
    tally.connections = lambda: len(server.connections)
    return server


async def _unrouted(request: web.Request) -> web.StreamResponse:
    """Say what no route answers: another method, or nothing at all."""
    if allowed := found_by(request).allowed:
        raise MethodError(
            f"{request.method} is not allowed here; allowed: {', '.join(allowed)}",
            {"allowed": list(allowed)},
        )
    raise NotFoundError(f"nothing is at {clip(request.path)}; GET /openapi.json lists the paths")
