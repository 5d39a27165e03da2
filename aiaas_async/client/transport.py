"""One request and its answer over HTTP: a deadline, retries, and every failure a typed error."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from errno import ECONNREFUSED
from typing import Any, Final
from weakref import WeakSet

import aiohttp
from yarl import URL

from aiaas_async import __version__
from aiaas_async.client.body import server_timeout_ms
from aiaas_async.client.failures import (
    ID_HEADER,
    DisconnectedError,
    UnreachableError,
    error_of,
)
from aiaas_async.client.request import Reply, Request
from aiaas_async.client.retry import RetryBudget, RetryPolicy, is_refusal
from aiaas_async.errors import AiaasError, DeadlineError
from aiaas_async.requestid import REQUEST_ID
from aiaas_async.wire.codecs import MSGPACK

_TURNS: Final = 100  # of the event loop; a connection takes three or four to close
_HEADERS: Final = {"User-Agent": f"aiaas-async/{__version__}", "Accept": MSGPACK.content_type}


class Transport:
    """Connections to the server at `url`, opened when they are needed; every request has
    `headers`."""

    def __init__(
        self,
        url: str,
        timeout_s: float,
        policy: RetryPolicy,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url, self.timeout_s, self.policy = url, timeout_s, policy
        self._own = {**_HEADERS, **(headers or {})}
        self._budget = RetryBudget(policy)
        self._open: aiohttp.ClientSession | None = None
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._closed = False

    async def send(self, request: Request) -> Reply:
        """The answer, if it is of 2xx; otherwise raises the error that it stands for."""
        timeout = request.timeout_s or self.timeout_s
        with _named():
            try:
                async with asyncio.timeout(timeout) as scope:
                    reply = await self._until_answered(request, _Clock(scope, timeout))
            except TimeoutError:
                raise self._unanswered(timeout) from None
        self._budget.earn()
        return reply

    def _unanswered(self, timeout_s: float) -> DeadlineError:
        return DeadlineError(f"{self.url} gave no answer within {timeout_s:g} s")

    async def _until_answered(self, request: Request, clock: _Clock) -> Reply:
        refused, broke = 0, False
        while True:
            try:
                reply = await self._once(request, clock)
            except DisconnectedError:
                if broke or not request.repeatable:
                    raise
                broke = True
                continue
            gone = reply.status == 404 and request.method == "DELETE" and broke
            if reply.ok or gone:  # gone: the try that broke had deleted it
                return reply
            error = error_of(reply.status, reply.headers, reply.body)
            wait = self._pause(request, reply, error, refused, clock)
            if wait is None:
                raise error
            refused += 1
            await asyncio.sleep(wait)

    def _pause(
        self, request: Request, reply: Reply, error: AiaasError, refused: int, clock: _Clock
    ) -> float | None:
        """Seconds until the next try, or None when there is none."""
        if not request.patient or not is_refusal(reply.status, error):
            return None
        wait = self.policy.pause(
            refused,
            error.retry_after or 0.0,
            clock.remaining_s,
            random.random(),  # noqa: S311
        )
        return wait if wait is not None and self._budget.spend() else None

    async def _once(self, request: Request, clock: _Clock) -> Reply:
        with self._translated(request):
            async with self._session().request(**self._arguments(request, clock)) as response:
                return Reply(response.status, response.headers, await response.read())

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[aiohttp.StreamReader]:
        """The answer's body as it comes; the deadline is for its beginning only. No retries."""
        timeout = request.timeout_s or self.timeout_s
        with _named(), self._translated(request):
            try:
                async with asyncio.timeout(timeout) as scope:
                    arguments = self._arguments(request, _Clock(scope, timeout))
                    response = await self._session().request(**arguments)
            except TimeoutError:
                raise self._unanswered(timeout) from None
            async with response:
                if response.status != 200:
                    raise error_of(response.status, response.headers, await response.read())
                yield response.content

    def _arguments(self, request: Request, clock: _Clock) -> dict[str, Any]:
        remaining = clock.remaining_s
        headers = {**self._own, "X-Deadline-Ms": str(server_timeout_ms(remaining))}
        if request_id := REQUEST_ID.get():
            headers[ID_HEADER] = request_id
        data = None
        if request.body is not None:
            headers |= request.body.headers
            data = request.body.open(remaining, clock.push_back)
        return {
            "method": request.method,
            "url": URL(self.url + request.path, encoded=True),
            "params": request.query or None,
            "headers": headers | dict(request.headers),
            "data": data,
            # A redirected POST would become a GET; addresses are the caller's to choose.
            "allow_redirects": False,
        }

    @contextmanager
    def _translated(self, request: Request) -> Iterator[None]:
        """aiohttp's failures as ours."""
        try:
            yield
        except (aiohttp.ClientConnectorError, aiohttp.ClientConnectorCertificateError) as error:
            raise self._unreachable(error) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            if request.body is not None and request.body.failure is not None:
                raise request.body.failure from None
            raise self._disconnected(request) from error

    def _unreachable(self, error: aiohttp.ClientError) -> UnreachableError:
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else None
        if cause is not None and _is_refusal(cause):
            return UnreachableError(
                f"no server answers at {self.url}; start one with `aiaas serve`"
            )
        reason = (cause.strerror if cause is not None else None) or error
        return UnreachableError(f"{self.url} cannot be reached: {reason}")

    def _disconnected(self, request: Request) -> DisconnectedError:
        unsure = "" if request.repeatable else "; whether it was done is not known"
        return DisconnectedError(
            f"{self.url} broke the connection before it answered {request.method} "
            f"{request.path}{unsure}"
        )

    def _session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RuntimeError("this client is closed: make another")
        if self._open is None:
            self._open = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(socket_factory=self._make_socket),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                middlewares=(_sent_once,),
            )
        return self._open

    def _make_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = address
        made = socket.socket(family, kind, protocol)
        self._sockets.add(made)
        return made

    async def close(self) -> None:
        """Close every connection now, also one whose upload was cancelled: it would wait for the
        rest of its buffer to be taken, and outlive its event loop."""
        self._closed = True
        if self._open is not None:
            await self._open.close()
        for left in self._connected():
            with suppress(OSError):
                left.shutdown(socket.SHUT_RDWR)
        for _ in range(_TURNS):
            if not self._connected():
                return
            await asyncio.sleep(0)

    def _connected(self) -> list[socket.socket]:
        return [each for each in self._sockets if each.fileno() >= 0]


@contextmanager
def _named() -> Iterator[None]:
    """What goes wrong without an answer is told with the id that was sent, if one was."""
    try:
        yield
    except AiaasError as error:
        error.request_id = error.request_id or REQUEST_ID.get() or None
        raise


async def _sent_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating PUT and DELETE by itself: it knows no conditions, and could not
    repeat a stream (its issue 10790). It repeats after these errors, but not after their base."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(str(error)) from error


def _is_refusal(cause: OSError) -> bool:
    # Where a name has several addresses the number is only in the text.
    return cause.errno == ECONNREFUSED or f"[Errno {ECONNREFUSED:d}]" in str(cause)


class _Clock:
    """The deadline of a request; a body that streams pushes it back as long as it moves."""

    def __init__(self, scope: asyncio.Timeout, timeout_s: float) -> None:
        self._scope, self._timeout_s = scope, timeout_s
        self._loop = asyncio.get_running_loop()

    @property
    def remaining_s(self) -> float:
        return max(0.0, (self._scope.when() or 0.0) - self._loop.time())

    def push_back(self) -> None:
        if not self._scope.expired():
            self._scope.reschedule(self._loop.time() + self._timeout_s)
