"""A request as handlers see it: aiohttp's, with the application and the route that were found,
and what its body takes.

The application is aiohttp's typed store and nothing more; `routing.py` does the routing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion11, hdrs, web

from aiaas_async.http.budget import Share
from aiaas_async.http.routing import Found, Router
from aiaas_async.requestid import REQUEST_ID

ID_HEADER: Final = "X-Request-Id"

# Not `web.Request`: to ask whether it is one of ours would ask an abstract base class.
Handler = Callable[["Request"], Awaitable[web.StreamResponse]]
ROUTER: web.AppKey[Router[Handler]] = web.AppKey("router", Router)


class Request(web.Request):
    """Made by `requests_of`; `front` sets `found`, `read_body` `share`."""

    ATTRS = web.Request.ATTRS | {"found", "share"}

    app: web.Application  # of the class: a property would be a call for each use
    found: Found[Handler]
    share: Share | None = None  # what its body takes of the budget, given back with the answer

    @property
    def match_info(self) -> Mapping[str, str]:  # type: ignore[override]
        """The parameters in the path, by name."""
        return self.found.parameters

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        """Runs before the head of a reply is written."""
        if request_id := REQUEST_ID.get():
            response.headers[ID_HEADER] = request_id


def requests_of(store: web.Application) -> Callable[..., Request]:
    """What makes the requests that find `store`: a class of their own, since a constructor of
    ours between aiohttp's would cost each request a microsecond."""

    class Bound(Request):
        app = store

    return partial(Bound, loop=asyncio.get_running_loop())


def found_by(request: web.Request) -> Found[Handler]:
    """The route of `request`."""
    assert isinstance(request, Request)
    return request.found


async def front(request: Request) -> web.StreamResponse:
    """Hand `request` to the handler of its route."""
    target = request.raw_path
    path = target.partition("?")[0] if target.startswith("/") else _path_of(target)
    request.found = found = request.app[ROUTER].find(request.method, path)
    if hdrs.EXPECT in request.headers:
        await _go_on(request)
    return await found.handler(request)


def _path_of(target: str) -> str:
    """The path in a target that does not begin with it: "GET http://host/path" and "OPTIONS *" are
    HTTP too (RFC 9112, 3.2)."""
    _, absolute, rest = target.partition("://")
    return "/" + (rest.partition("?")[0].partition("/")[2] if absolute else target)


async def _go_on(request: web.Request) -> None:
    """A caller that asks before it sends its body (curl does above 1 MiB) is told to send."""
    if request.version == HttpVersion11 and request.headers[hdrs.EXPECT].lower() == "100-continue":
        status = HTTPStatus.CONTINUE
        await request.writer.write(f"HTTP/1.1 {status.value} {status.phrase}\r\n\r\n".encode())
        request.writer.output_size = 0  # the reply itself has not begun
