"""Answers with arrays: JSON of many numbers is written by the readers, so that nobody waits for it.

A million numbers take 40 ms to write, and a thread would hold the interpreter for as long. Texts in
MessagePack a thread writes, in steps between which others run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from aiaas_async.http.exchange import PLATFORM, reply
from aiaas_async.wire.codecs import JSON, Codec
from aiaas_async.wire.longjson import MANY, arrays_in, with_texts


async def reply_arrays(request: web.Request, codec: Codec, value: Any) -> web.Response:
    """`value`, objects that hold arrays, encoded."""
    if codec is JSON:
        arrays = list(arrays_in(value))
        if sum(array.size for array in arrays) > MANY:
            readers = request.app[PLATFORM].readers
            texts = await readers.write_json({str(n): each for n, each in enumerate(arrays)})
            value = with_texts(value, iter(texts.values()))
    return reply(codec, value)


async def reply_call(
    request: web.Request, codec: Codec, value: Any, outputs: Mapping[str, Any]
) -> web.Response:
    """The same of a call's answer, whose arrays are `outputs`."""
    if codec is not JSON:
        for array in outputs.values():
            if array.dtype.kind == "U" and array.size > MANY:
                return await asyncio.to_thread(reply, codec, value)
    return await reply_arrays(request, codec, value)
