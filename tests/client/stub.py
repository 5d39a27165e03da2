"""A server on a real socket whose every answer the test decides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from aiaas_async.client.retry import RetryPolicy
from aiaas_async.errors import AiaasError
from aiaas_async.http.status import headers_of, problem, status_of

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

QUICK = RetryPolicy(base_s=0.001, cap_s=0.002, jitter=0.0)


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        return msgspec.msgpack.decode(self.body)


@dataclass
class Stub:
    """Gives its `answers` in turn, the last one for ever."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    read_bodies: bool = True

    def will(self, *answers: Answer) -> None:
        self.answers = list(answers)

    @property
    def paths(self) -> list[str]:
        return [f"{asked.method} {asked.path}" for asked in self.asked]

    async def start(self) -> web.AppRunner:
        """Listen on a free port; `cleanup()` of what it returns ends that."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{tail:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return runner

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read() if self.read_bodies else b""
        headers = {name: value for name, value in request.headers.items()}  # noqa: C416
        self.asked.append(Asked(request.method, request.rel_url.raw_path_qs, headers, body))
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        return await answer(request)


def value(content: Any, status: int = 200, **headers: str) -> Answer:
    """A MessagePack answer."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=msgspec.msgpack.encode(content),
            status=status,
            content_type="application/msgpack",
            headers={name.replace("_", "-"): text for name, text in headers.items()},
        )

    return answer


def text(content: str, status: int = 200, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(
            text=content,
            status=status,
            content_type="text/html",
            headers={name.replace("_", "-"): text for name, text in headers.items()},
        )

    return answer


def refusal(error: AiaasError) -> Answer:
    """A problem, as the platform's own server says it, in JSON."""
    status = status_of(error)

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=msgspec.json.encode(problem(error, status)),
            status=status,
            content_type="application/problem+json",
            headers=headers_of(error, status),
        )

    return answer


def events(*lines: str) -> Answer:
    """Server-sent events, then the end of the stream."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for line in lines:
            await response.write(line.encode())
        await response.write_eof()
        return response

    return answer


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Break the connection instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@asynccontextmanager
async def running() -> AsyncIterator[Stub]:
    stub = Stub()
    runner = await stub.start()
    try:
        yield stub
    finally:
        await runner.cleanup()
