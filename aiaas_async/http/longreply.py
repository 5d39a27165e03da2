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
from aiaas_async.wire.longjson import MANY, long_arrays, numbers_in, with_texts


async def reply_arrays(request: web.Request, codec: Codec, value: Any) -> web.Response:
    """`value`, objects that hold arrays, encoded. Raises `InputError` for what JSON has no form
    of."""
    numbers = dict(numbers_in(value)) if codec is JSON else {}
    return await reply_call(request, codec, value, numbers)


async def reply_call(
    request: web.Request, codec: Codec, value: Any, numbers: Mapping[str, Any]
) -> web.Response:
    """The same, where the `numbers` in it are known: its arrays, in order, by the name to call each
    by."""
    if codec is JSON:
        if arrays := long_arrays(numbers):
            texts = await request.app[PLATFORM].readers.write_json(arrays)
            value = with_texts(value, iter(texts.values()))
        return reply(codec, value)
    for array in numbers.values():
        if array.dtype.kind == "U" and array.size > MANY:
            return await asyncio.to_thread(reply, codec, value)
    return reply(codec, value)
