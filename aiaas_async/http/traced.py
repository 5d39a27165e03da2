"""Handlers with a span around each request, where the operator has asked for traces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from aiaas_async.http.request import Handler, Request
from aiaas_async.http.routing import ANY

if TYPE_CHECKING:
    from aiaas_async.service.tracing import Tracing

# Asked for every few seconds by machines, for ever: their spans would hide the others.
_PROBES: Final = frozenset(
    {"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics"}
)


def traced(handler: Handler, tracing: Tracing | None, method: str, pattern: str) -> Handler:
    """`handler`, each of whose requests is told to `tracing`; itself when nobody traces."""
    if tracing is None or pattern in _PROBES:
        return handler
    name = pattern if method == ANY else f"{method} {pattern}"

    async def answer(request: Request) -> web.StreamResponse:
        # The names are OpenTelemetry's semantic conventions for HTTP.
        facts = {
            "http.request.method": request.method,
            "http.route": pattern,
            "url.path": request.path,
        }
        with tracing.request(name, request.headers, facts) as span:
            response = await handler(request)
            span.answered(response.status)
            return response

    return answer
