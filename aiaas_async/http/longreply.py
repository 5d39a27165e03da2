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
from aiaas_async.wire.nonfinite import OUTPUT, VALUE, Words


async def reply_arrays(request: web.Request, codec: Codec, value: Any) -> web.Response:
    """`value`, objects that hold arrays, encoded. Raises `InputError` for what JSON has no form
    of."""
    numbers = dict(numbers_in(value)) if codec is JSON else {}
    return await _reply(request, codec, value, numbers, VALUE)


async def reply_call(
    request: web.Request, codec: Codec, value: Any, numbers: Mapping[str, Any]
) -> web.Response:
    """The same of the answer to a call, where the `numbers` in it are known: its outputs, in order,
    by name."""
    return await _reply(request, codec, value, numbers, OUTPUT)


async def _reply(
    request: web.Request, codec: Codec, value: Any, numbers: Mapping[str, Any], words: Words
) -> web.Response:
    if codec is JSON:
        if arrays := long_arrays(numbers, words):
            texts = await request.app[PLATFORM].readers.write_json(arrays, words)
            value = with_texts(value, iter(texts.values()))
        return reply(codec, value)
    for array in numbers.values():
        if array.dtype.kind == "U" and array.size > MANY:
            return await asyncio.to_thread(reply, codec, value)
    return reply(codec, value)
