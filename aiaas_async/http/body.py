"""Reading request bodies: capped in bytes, in time, and in total over all requests.

Chunks are collected and joined once (300 to 470 us for 600 KB, where `request.read()` takes 460
to 650), or not at all where a body is laid elsewhere (3 MB take 0.7 ms so, joined 1). gzip and
deflate are accepted, because V2 clients send them; they are inflated up to the same cap and off
the event loop, since 1 MB of zeros' gzip stalls it for a second.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Final, cast

from aiohttp import StreamReader, hdrs, web

from aiaas_async.errors import (
    DeadlineError,
    MalformedError,
    TooLargeError,
    UnsupportedMediaError,
)
from aiaas_async.http.budget import BodyBudget, Share
from aiaas_async.http.pace import Pace
from aiaas_async.http.request import Request
from aiaas_async.names import clip

_SMALL: Final = 1 << 16  # bytes that need not be counted: the number of connections is bounded
_MOST_PIECES: Final = 1024  # a sender may send byte by byte
_GLANCE_S: Final = 0.1  # of bodies that trickle in, what is here is joined so often
_ALIGNMENT: Final = 16  # of a bytes object's data, as CPython lays it out
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def at_once(request: web.Request, cap: int) -> list[bytes] | None:
    """What `read_pieces` would give for a small body that came with its headers and is not
    compressed, else None. Raises `TooLargeError` above `cap` bytes."""
    content = request.content
    here = content.is_eof() and content.total_bytes <= _SMALL
    if not here or hdrs.CONTENT_ENCODING in request.headers:
        return None
    body = content.read_nowait()
    if len(body) > cap:
        raise _too_large(len(body), cap)
    return [body]


async def read_body(request: web.Request, cap: int, budget: BodyBudget, timeout_s: float) -> bytes:
    """The body, decompressed. Raises what `read_pieces` does."""
    pieces = at_once(request, cap)
    if pieces is None:
        pieces = await read_pieces(request, cap, budget, timeout_s)
    return joined(pieces)


def joined(pieces: list[bytes]) -> bytes:
    """A body from its pieces."""
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def aligned(pieces: list[bytes], at: int) -> memoryview:
    """The same; what begins at byte `at` of it lies where arrays must in memory: numpy copies one
    that lies elsewhere before it computes (100 us for 600 KB)."""
    lead = -at % _ALIGNMENT
    if not lead:
        return memoryview(joined(pieces))
    return memoryview(b"".join((bytes(lead), *pieces)))[lead:]


async def read_pieces(
    request: web.Request, cap: int, budget: BodyBudget, timeout_s: float
) -> list[bytes]:
    """The body, decompressed, in `_MOST_PIECES` at most. Raises `TooLargeError` above `cap` bytes
    (declared, sent or inflated), `DeadlineError` when it does not arrive in `timeout_s` seconds, or
    slower than the budget's pace. It is counted until its request is answered.
    """
    declared = request.content_length
    if declared is not None and declared > cap:
        raise _too_large(declared, cap)
    coding = request.headers.get("Content-Encoding", "identity").lower()
    if coding != "identity" and coding not in _WINDOW_BITS:
        raise UnsupportedMediaError(
            f"Content-Encoding {clip(coding)} is not supported; use gzip, deflate or none"
        )
    share = cast(Request, request).share = Share(budget)
    share.grow_to(declared or 0)
    pieces = await _collect(request, cap, timeout_s, share)
    if coding == "identity":
        return pieces
    body, loop = joined(pieces), asyncio.get_running_loop()
    inflated = await loop.run_in_executor(None, inflate, body, coding, cap)
    share.grow_to(len(body) + len(inflated))
    return [inflated]


async def _collect(request: web.Request, cap: int, timeout_s: float, share: Share) -> list[bytes]:
    content = request.content
    if request.content_length is None:
        pieces = await _undeclared(content, cap, timeout_s, share)
    else:
        pieces = await _declared(content, request.content_length, timeout_s, share.pace)
    return [b"".join(pieces)] if len(pieces) > _MOST_PIECES else pieces


async def _declared(content: StreamReader, size: int, timeout_s: float, pace: Pace) -> list[bytes]:
    """The body whose `size` the budget has room for: nobody is woken before all of it is here, or
    `_GLANCE_S` has passed."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    content.set_read_chunk_size(size)  # or it would pause at 128 KiB
    pieces = []
    if content.total_bytes:  # goes on, if it has paused; all that is here would be joined
        pieces.append((await content.readchunk())[0])
    while not content.is_eof():
        now = loop.time()
        until = started + min(timeout_s, pace.allowed_s(content.total_bytes))
        if until <= now:
            raise _too_slow(timeout_s, pace, now - started)
        try:
            async with asyncio.timeout_at(min(until, now + _GLANCE_S)):
                await content.wait_eof()
        except TimeoutError:  # what came meanwhile may have bought more time
            pieces.append(content.read_nowait())
    while not content.at_eof():
        pieces.append((await content.readchunk())[0])
    return [piece for piece in pieces if piece]


async def _undeclared(
    content: StreamReader, cap: int, timeout_s: float, share: Share
) -> list[bytes]:
    pace, started = share.pace, asyncio.get_running_loop().time()
    timed = size = 0  # bytes that the timer knows of, and all
    chunks: list[bytes] = []
    try:
        async with asyncio.timeout_at(started + min(timeout_s, pace.allowed_s(0))) as patience:
            while chunk := await content.readany():
                size += len(chunk)
                if size > cap:
                    raise _too_large(size, cap)
                share.grow_to(size)
                chunks.append(chunk)
                if size - timed > pace.rate:  # a second's worth
                    patience.reschedule(started + min(timeout_s, pace.allowed_s(size)))
                    timed = size
    except TimeoutError:
        raise _too_slow(timeout_s, pace, asyncio.get_running_loop().time() - started) from None
    return chunks


async def stream_body(
    request: web.Request, cap: int, timeout_s: float, pace: Pace
) -> AsyncIterator[bytes]:
    """The body in pieces as they come; each must come within `timeout_s` seconds, and all of them
    at `pace`. The time that their receiver takes is not the sender's.

    Raises `TooLargeError` above `cap` bytes, `UnsupportedMediaError` when it is compressed: what
    is stored, and hashed, is what was sent.
    """
    coding = request.headers.get("Content-Encoding", "identity").lower()
    if coding != "identity":
        raise UnsupportedMediaError(f"send files without Content-Encoding, got {clip(coding)}")
    size = request.content_length or 0
    if size > cap:
        raise _too_large(size, cap, "max_file_mb")
    size, waited, loop = 0, 0.0, asyncio.get_running_loop()
    while True:
        began = loop.time()
        left = max(0.0, min(timeout_s, pace.allowed_s(size) - waited))
        try:
            async with asyncio.timeout(left):
                chunk = await request.content.readany()
        except TimeoutError:
            raise _too_slow(timeout_s, pace, loop.time() - began) from None
        waited += loop.time() - began
        if not chunk:
            return
        size += len(chunk)
        if size > cap:
            raise _too_large(size, cap, "max_file_mb")
        yield chunk


def inflate(body: bytes, coding: str, cap: int) -> bytes:
    """`body` decompressed, at most `cap` bytes of it; raises `MalformedError`, `TooLargeError`."""
    inflater = zlib.decompressobj(_WINDOW_BITS[coding])
    try:
        out = inflater.decompress(body, cap + 1)
    except zlib.error as error:
        raise MalformedError(f"the body is not valid {coding}") from error
    if len(out) > cap:
        raise _too_large(len(out), cap)
    if not inflater.eof or inflater.unused_data:
        raise MalformedError(f"the {coding} body is cut short or has trailing bytes")
    return out


def _too_slow(timeout_s: float, pace: Pace, waited_s: float) -> DeadlineError:
    if waited_s >= timeout_s:
        return DeadlineError(f"the body, or its next piece, did not arrive within {timeout_s:g} s")
    return DeadlineError(
        f"the body comes too slowly: at least {pace} are expected after {pace.grace_s:g} s"
    )


def _too_large(size: int, cap: int, setting: str = "max_body_mb") -> TooLargeError:
    return TooLargeError(
        f"the body has at least {size} bytes, {cap} are allowed; send less, or raise {setting}",
        {"limit": cap},
    )
