"""Bodies of items: one value after the other, each whole before it is looked at.

A stream has any length, and is in memory by two values at most: one is stored while the next one
comes. A body that is compressed, or in JSON, is one value as everywhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from aiaas_async.errors import MalformedError, TooLargeError
from aiaas_async.http.body import stream_body
from aiaas_async.http.budget import Share
from aiaas_async.http.exchange import BUDGET, PLATFORM, as_object
from aiaas_async.wire.codecs import MSGPACK, Codec, decode_msgpack
from aiaas_async.wire.skim import Measure


def is_stream(request: web.Request, codec: Codec) -> bool:
    """Whether the body may hold several values."""
    plain = request.headers.get("Content-Encoding", "identity").lower() == "identity"
    return plain and codec is MSGPACK


async def raw_values(request: web.Request) -> AsyncIterator[bytearray]:
    """The MessagePack values of a body, not decoded yet.

    Raises `TooLargeError` for a value above the cap of bodies, `MalformedError` for what is none
    or is cut short, `OverloadedError` and `DeadlineError` as `read_body` does.
    """
    settings = request.app[PLATFORM].settings
    cap, share = settings.max_body_mb << 20, Share(request.app[BUDGET])
    held, needed, look = bytearray(), 1, Measure()
    try:
        async for chunk in stream_body(
            request, settings.max_file_mb << 20, settings.read_timeout_s, request.app[BUDGET].pace
        ):
            held += chunk
            while held and len(held) >= needed:
                needed = look.of(held, [])
                if needed > cap:
                    raise _too_large(needed, cap)
                share.grow_to(2 * needed)
                if len(held) >= needed:
                    value, held = held, held[needed:]
                    del value[needed:]
                    needed, look = 1, Measure()
                    yield value
        if held:
            raise MalformedError("the MessagePack body is cut short")
    finally:
        share.give_back()


def decode(raw: bytearray) -> dict[str, Any]:
    """One value, which must be an object."""
    return as_object(decode_msgpack(raw))


def _too_large(size: int, cap: int) -> TooLargeError:
    return TooLargeError(
        f"one value of the body has at least {size} bytes, {cap} are allowed; send fewer items in "
        "each, or raise max_body_mb",
        {"limit": cap},
    )
