"""The server process: a platform behind a listening socket, until a signal says stop.

SIGTERM and SIGINT drain: no new connections, what is under way is answered, jobs checkpoint. A
second signal ends at once.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web, web_response

from aiaas_async.compute.base import WorkerSource
from aiaas_async.config import Settings
from aiaas_async.errors import InvalidError
from aiaas_async.http.admission import Admission
from aiaas_async.http.app import make_server
from aiaas_async.http.budget import BodyBudget
from aiaas_async.http.pace import pace_of
from aiaas_async.http.protocol import Connection
from aiaas_async.nn.memory import keep_freed_memory
from aiaas_async.service.lifespan import running_platform
from aiaas_async.service.platform import Platform

logger = logging.getLogger(__name__)

_BACKLOG = 1024
# How long the rest of a refused body is read, so that its sender comes to read the refusal. With
# the grace of slow bodies under 10 s.
_LINGERING_S = 4.0
_LARGE_BODY = 4 << 20  # bytes, for which new pages take 1 ms
_GC_THRESHOLD = 20_000  # allocations between collections; Python's 700 to 2,000 suit small heaps
# aiohttp's own Server header tells the versions of Python and of itself.
web_response.SERVER_SOFTWARE = "aiaas"  # type: ignore[attr-defined]


@asynccontextmanager
async def running_server(
    settings: Settings, workers: WorkerSource
) -> AsyncIterator[tuple[Platform, str]]:
    """The platform and the address it answers at, e.g. "http://127.0.0.1:8080".

    Raises `InvalidError` when the address cannot be had.
    """
    try:
        listening = _listen(settings.host, settings.port)
    except InvalidError:
        await workers.close()  # else the platform does
        raise
    try:
        async with running_platform(settings, workers) as platform:
            budget = BodyBudget(settings.in_flight_body_mb << 20, pace_of(settings))
            manager = make_server(platform, budget)
            runner = web.ServerRunner(manager, shutdown_timeout=settings.grace_s)
            await runner.setup()
            try:
                async with _accepting(listening, manager, budget, settings):
                    yield platform, _address(listening)
            finally:
                platform.stopping.set()
                await runner.cleanup()
    finally:
        listening.close()


@asynccontextmanager
async def _accepting(
    listening: socket.socket, manager: web.Server, budget: BodyBudget, settings: Settings
) -> AsyncIterator[None]:
    """Serve connections of our own kind; at the end no more are accepted."""
    loop = asyncio.get_running_loop()
    admission = Admission(settings.max_connections, settings.max_connections_per_address)

    def connection() -> Connection:
        return Connection(
            manager,
            admission,
            budget,
            loop=loop,
            access_log=None,
            auto_decompress=False,  # `body.py` inflates, within bounds
            keepalive_timeout=settings.keepalive_s,
            lingering_time=_LINGERING_S,
        )

    acceptor = await loop.create_server(connection, sock=listening, backlog=_BACKLOG)
    try:
        yield
    finally:
        # Not waited for: the connections that are open end with the runner.
        acceptor.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except (OSError, TypeError) as error:  # TypeError: of a text that is no name of a host
        found.close()
        raise InvalidError(f"cannot listen on {host}:{port}: {_why(error)}") from error
    return found


def _why(error: OSError | TypeError) -> str:
    if not isinstance(error, OSError):
        return str(error)
    hint = "; choose another with --port" if error.errno == errno.EADDRINUSE else ""
    return f"{error.strerror or error}{hint}"  # numbers of the resolver's are none of the system's


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(settings: Settings, workers: WorkerSource, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `on_ready` gets the address."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop)
    async with running_server(settings, workers) as (_, address):
        settle_memory()
        on_ready(address)
        await stop.wait()
        logger.info("stopping: waiting up to %g s for what is under way", settings.grace_s)


def settle_memory() -> None:
    """For a server that is ready: what is alive stays, and the collector need not look at it again
    and again; bodies come and go, and the kernel need not clear new pages for each. Large ones
    would lie between others when they are freed, and never go back."""
    keep_freed_memory(largest=_LARGE_BODY)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)


def _on_signal(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(130)  # workers die with us: PR_SET_PDEATHSIG
    stop.set()
