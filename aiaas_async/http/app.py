"""The application: every route in one table, wrapped alike."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from aiaas_async.errors import AiaasError, MethodError, NotFoundError
from aiaas_async.http import datasets, jobs, meta, models, nodes, seed
from aiaas_async.http.body import BodyBudget
from aiaas_async.http.exchange import BUDGET, PLATFORM, Handler, answering, refusal
from aiaas_async.http.guard import check_origin
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
    ("PUT", _VERSION + "/files/{path:.+}", models.put_file),
    ("GET", _VERSION + "/files/{path:.+}", models.get_file),
    ("POST", _VERSION + "/commit", models.commit),
    ("POST", _VERSION + "/load", models.load),
    ("POST", _VERSION + "/unload", models.unload),
    ("POST", _VERSION + "/loss", models.loss),
    ("POST", _VERSION + "/gradient", models.gradient),
    ("GET", "/models/{name}/aliases/{alias}", models.get_alias),
    ("PUT", "/models/{name}/aliases/{alias}", models.put_alias),
    ("DELETE", "/models/{name}/aliases/{alias}", models.delete_alias),
    ("GET", "/datasets", datasets.list_datasets),
    ("GET", "/datasets/{name}", datasets.show_dataset),
    ("PUT", "/datasets/{name}", datasets.put_dataset),
    ("DELETE", "/datasets/{name}", datasets.delete_dataset),
    ("GET", "/datasets/{name}/items", datasets.get_items),
    ("POST", "/datasets/{name}/items", datasets.post_items),
    ("DELETE", "/datasets/{name}/items", datasets.delete_items),
    ("POST", "/train", jobs.train),
    ("GET", "/jobs", jobs.list_jobs),
    ("GET", "/jobs/{id}", jobs.show_job),
    ("DELETE", "/jobs/{id}", jobs.cancel_job),
    ("GET", "/jobs/{id}/events", jobs.follow_job),
    ("GET", "/nodes", nodes.list_nodes),
    ("GET", "/nodes/{id}", nodes.show_node),
    ("GET", "/ring", nodes.explain_ring),
    ("GET", "/health/live", meta.live),
    ("GET", "/health/ready", meta.ready),
    ("GET", "/metrics", meta.metrics),
    ("GET", "/openapi.json", meta.openapi),
]


def make_app(platform: Platform) -> web.Application:
    """The aiohttp application that serves `platform`."""
    # The body cap is ours (`body.py`); aiohttp's own applies only to its `request.read()`.
    app = web.Application(middlewares=[_guard])
    app.on_response_prepare.append(_name_no_versions)
    app[PLATFORM] = platform
    app[BUDGET] = BodyBudget(platform.settings.in_flight_body_mb << 20)
    for method, path, handler in ROUTES:
        app.router.add_route(method, path, answering(handler))
    return app


async def _name_no_versions(request: web.Request, response: web.StreamResponse) -> None:
    """aiohttp's own Server header tells the versions of Python and itself."""
    del request
    response.headers["Server"] = "aiaas"


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse foreign pages and hosts; say in our own form what no route answers."""
    try:
        check_origin(request, request.app[PLATFORM].settings.allowed_hosts)
    except AiaasError as error:
        return refusal(request, error)
    if request.match_info.http_exception is None:
        return await handler(request)
    missing = request.match_info.http_exception
    response = refusal(request, _unrouted(request, missing))
    if isinstance(missing, web.HTTPMethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(missing.allowed_methods))
    return response


def _unrouted(request: web.Request, missing: web.HTTPException) -> AiaasError:
    if isinstance(missing, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(missing.allowed_methods))
        return MethodError(f"{request.method} is not allowed here; allowed: {allowed}")
    return NotFoundError(f"nothing is at {clip(request.path)}; GET /openapi.json lists the paths")
