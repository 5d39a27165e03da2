"""`generate` and `generate_stream`: text models without tensors; a stream is server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

import msgspec
from aiohttp import web

from aiaas_async.errors import AiaasError
from aiaas_async.http.exchange import PLATFORM
from aiaas_async.http.v2compression import compressed
from aiaas_async.http.v2exchange import (
    call_for,
    control_body,
    count_unread,
    ready_record,
)
from aiaas_async.http.v2models import V2
from aiaas_async.http.wholereply import WholeReply
from aiaas_async.names import ModelRef
from aiaas_async.registry.records import VersionRecord
from aiaas_async.service.streams import Part
from aiaas_async.wire.v2generate import (
    GenerateRequest,
    generated_lists,
    read_generate,
    write_generated,
)
from aiaas_async.wire.v2tensors import Array


async def generate(request: web.Request) -> web.StreamResponse:
    """The whole answer, as one object."""
    record = ready_record(request)
    asked = await _asked(request, record)
    call = call_for(request, record, asked.inputs, asked.terms)
    answer = await request.app[PLATFORM].calls.call(call)
    head = _head(asked, ModelRef(answer.model, answer.version))
    body = await _written(request, head, answer.outputs)
    return await compressed(request, WholeReply(body, "application/json"))


async def generate_stream(request: web.Request) -> web.StreamResponse:
    """An event for each part of the answer. What goes wrong before the first is an error like any
    other; afterwards it is the last event."""
    record = ready_record(request)
    asked = await _asked(request, record)
    call = call_for(request, record, asked.inputs, asked.terms)
    ref, parts = await request.app[PLATFORM].calls.stream(call)
    async with aclosing(parts):
        events = _events(request, parts, _head(asked, ref))
        return await _send(request, events, call.timeout_s)


async def _written(
    request: web.Request, head: Mapping[str, str], outputs: Mapping[str, Array]
) -> bytes:
    """The JSON of an answer, or of a part of one."""
    lists = generated_lists(outputs)
    if not lists:
        return write_generated(head, outputs)
    texts = await request.app[PLATFORM].readers.write_json(lists)
    return write_generated(head, outputs, texts)


async def _events(
    request: web.Request, parts: AsyncIterator[Part], head: Mapping[str, str]
) -> AsyncIterator[bytes]:
    """The parts as events. Raises only before the first."""
    begun = False
    try:
        async for part in parts:
            yield _event(await _written(request, head, part))
            begun = True
    except AiaasError as error:
        if not begun:
            raise
        yield _event(msgspec.json.encode({"error": error.message}))


async def _send(
    request: web.Request, events: AsyncIterator[bytes], timeout_s: float
) -> web.StreamResponse:
    """The events as a reply. A caller that has not read them all by its deadline loses the
    connection: `ConnectionResetError`."""
    until = asyncio.get_running_loop().time() + timeout_s
    first = await anext(events, b"")
    response = await _begun(request)
    try:
        async with asyncio.timeout_at(until):
            await response.write(first)
            async for event in events:
                await response.write(event)
            await response.write_eof()
    except TimeoutError:
        raise ConnectionResetError("the events were not read in time") from None
    return response


async def _begun(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # nginx would gather the events
        }
    )
    await response.prepare(request)
    return response


def _event(value: bytes) -> bytes:
    return b"data: %b\n\n" % value


async def _asked(request: web.Request, record: VersionRecord) -> GenerateRequest:
    started = time.perf_counter_ns()
    try:
        return read_generate(await control_body(request), request.app[V2].model_for(record))
    except BaseException as error:
        count_unread(request, record, error, started)
        raise


def _head(asked: GenerateRequest, ref: ModelRef) -> dict[str, str]:
    head = {"id": asked.id} if asked.id else {}
    return {**head, "model_name": ref.name, "model_version": ref.version}
