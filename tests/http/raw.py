"""HTTP as bytes: what no well-behaved client would send."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tests.http.api import Reply, check

PATIENCE_S = 10.0


@asynccontextmanager
async def connected(
    port: int, window: int | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection; of one with a `window` the kernel takes so many bytes ahead of the reader."""
    with socket.socket() as client:
        client.setblocking(False)
        if window is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
        async with _streams(client) as streams:
            yield streams


@asynccontextmanager
async def _streams(
    client: socket.socket,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(sock=client)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def head(method: str, path: str, *fields: str, host: str = "127.0.0.1") -> bytes:
    """A request's head; `host` may be "" for none."""
    lines = [f"{method} {path} HTTP/1.1", *([f"Host: {host}"] if host else []), *fields, "", ""]
    return "\r\n".join(lines).encode()


def json_post(path: str, *fields: str, host: str = "127.0.0.1") -> bytes:
    return head("POST", path, "Content-Type: application/json", *fields, host=host)


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """One response, by its Content-Length."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    body = await reader.readexactly(int(headers.get("Content-Length", "0")))
    return Reply(int(lines[0].split()[1]), headers, body)


async def talk(port: int, *parts: bytes) -> Reply:
    """The answer to a request in `parts`, checked as all answers are."""
    async with connected(port) as (reader, writer):
        for part in parts:
            writer.write(part)
        return check(await read_reply(reader), b"\0")


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


@dataclass
class Stall:
    """The most CPU time that passed between two turns of the loop, in ms.

    CPU time of this thread, not the clock's: other programs do not count. Nor does the collector,
    which has all of pytest to look at here; a server freezes its heap when it is ready.
    """

    worst_ms: float = 0.0


@contextmanager
def stall() -> Iterator[Stall]:
    loop, found = asyncio.get_running_loop(), Stall()
    last = time.thread_time()
    handle: asyncio.Handle

    def beat() -> None:
        nonlocal last, handle
        now = time.thread_time()
        found.worst_ms = max(found.worst_ms, (now - last) * 1000)
        last = now
        handle = loop.call_soon(beat)

    handle = loop.call_soon(beat)
    gc.disable()
    try:
        yield found
    finally:
        handle.cancel()
        beat()
        handle.cancel()
        gc.enable()


async def least_stall(bound_ms: float, attempt: Callable[[], Awaitable[None]]) -> float:
    """The stall of `attempt`, or the least of three where it is not below the bound: a processor
    that shares its core with another takes half as long again at times, also in CPU time."""
    found = []
    for _ in range(3):
        with stall() as measured:
            await attempt()
        found.append(measured.worst_ms)
        if found[-1] < bound_ms:
            break
    return min(found)
