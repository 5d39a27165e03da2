"""Who may speak to a server without a password: programs, and nobody's web page.

A page on another site can make a browser send requests to loopback (CSRF), or make its own name
resolve there (DNS rebinding). The first shows by Origin or Sec-Fetch-Site, the second by Host.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from aiohttp import hdrs, web

from aiaas_async.errors import ForbiddenOriginError, MisdirectedError
from aiaas_async.names import clip


def check_origin(request: web.Request, allowed_hosts: Sequence[str]) -> None:
    """Raise unless Host is one of `allowed_hosts` ("*" allows all) and no page sent this."""
    headers = request.headers
    host = headers.get(hdrs.HOST, "")
    if "*" not in allowed_hosts and _host_name(host) not in allowed_hosts:
        raise MisdirectedError(f"Host {clip(host)} is not served here; add it to allowed_hosts")
    if hdrs.ORIGIN in headers or headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
        raise ForbiddenOriginError("web pages of other origins may not call this server")


@lru_cache(maxsize=64)
def _host_name(host: str) -> str:
    """The name in a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
