"""/datasets: declare, fill, read, delete."""

from __future__ import annotations

from aiohttp import web

from aiaas_async.errors import InvalidError
from aiaas_async.http.exchange import (
    CONTROL_BYTES,
    PLATFORM,
    answer_codec,
    read_object,
    reply,
    whole_query,
)
from aiaas_async.http.itemstream import decode, is_stream, raw_values
from aiaas_async.http.longreply import reply_arrays
from aiaas_async.names import clip
from aiaas_async.wire.codecs import codec_for, reply_codec

_PAGE, _MOST = 100, 10_000
_FARTHEST = 10**12 - 1


async def put_dataset(request: web.Request) -> web.StreamResponse:
    """Declare a data set: columns, and the `replication` of its items; `copies` says how many each
    has now. No node holds two, and those that are wanting are made as nodes join."""
    body, codec = await read_object(request, CONTROL_BYTES)
    datasets = request.app[PLATFORM].datasets
    facts, created = await datasets.declare(request.match_info["name"], body)
    return reply(codec, facts, 201 if created else 200)


async def list_datasets(request: web.Request) -> web.StreamResponse:
    """All data sets; one that is damaged says so in `error`."""
    facts = await request.app[PLATFORM].datasets.list_all()
    return reply(answer_codec(request), {"datasets": facts})


async def show_dataset(request: web.Request) -> web.StreamResponse:
    facts = await request.app[PLATFORM].datasets.describe(request.match_info["name"])
    return reply(answer_codec(request), facts)


async def delete_dataset(request: web.Request) -> web.StreamResponse:
    """`?state=empty`: only while it has no items."""
    state = request.query.get("state")
    if state not in (None, "empty"):
        raise InvalidError(f"?state= must be empty or left out, got {clip(state)}")
    datasets, name = request.app[PLATFORM].datasets, request.match_info["name"]
    await datasets.delete(name, only_empty=state == "empty")
    return web.Response(status=204)


async def compact_dataset(request: web.Request) -> web.StreamResponse:
    """Give back the bytes of items that were replaced or deleted."""
    facts = await request.app[PLATFORM].datasets.compact(request.match_info["name"])
    return reply(answer_codec(request), facts)


async def post_items(request: web.Request) -> web.StreamResponse:
    """Store items, from one body or a stream of them; durable when it is answered."""
    datasets, name = request.app[PLATFORM].datasets, request.match_info["name"]
    asked = codec_for(request.headers.get("Content-Type"))
    if is_stream(request, asked):
        report = await datasets.put_stream(name, raw_values(request), decode)
        return reply(reply_codec(request.headers.get("Accept"), asked), report)
    body, codec = await read_object(request)
    return reply(codec, await datasets.put(name, body))


async def get_items(request: web.Request) -> web.StreamResponse:
    """One item by ?key=; items ?start= to ?stop= in the order of arrival; else a page of up to
    ?limit= (100 where it is left out, 10,000 at most), after the `next` of an earlier one. No
    answer has more than a million values, unless one item does: the rest comes ?after= its
    `next`."""
    datasets, name = request.app[PLATFORM].datasets, request.match_info["name"]
    codec = answer_codec(request)
    key = request.query.get("key")
    if key is not None:
        return await reply_arrays(request, codec, await datasets.get(name, key))
    if "start" in request.query or "stop" in request.query:
        start = whole_query(request, "start", 0, _FARTHEST)
        stop = whole_query(request, "stop", start + _PAGE, _FARTHEST)
        if stop - start > _MOST:
            raise InvalidError(f"start to stop may be {_MOST} items at most, got {stop - start}")
        return await reply_arrays(request, codec, await datasets.range(name, start, stop))
    limit = whole_query(request, "limit", _PAGE, _MOST)
    after = request.query.get("after")
    return await reply_arrays(request, codec, await datasets.page(name, after, limit))


async def delete_items(request: web.Request) -> web.StreamResponse:
    key = request.query.get("key")
    if key is None:
        raise InvalidError("say which item: ?key=…; DELETE /datasets/{name} deletes them all")
    await request.app[PLATFORM].datasets.delete_item(request.match_info["name"], key)
    return web.Response(status=204)
