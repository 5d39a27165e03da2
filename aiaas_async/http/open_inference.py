"""/v2: the Open Inference Protocol, as Triton's and KServe's clients speak it.

The first dimension of every tensor is the batch. Errors are `{"error": text}`, with the reference
server's statuses and words. Versions are this platform's strings; a whole number is also the
version that equals it ("1" finds 1.0); without one the latest answers.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any, Final

from aiohttp import hdrs, web

from aiaas_async import __version__
from aiaas_async.errors import InvalidError, MethodError, NotFoundError
from aiaas_async.http.body import aligned, at_once, read_pieces
from aiaas_async.http.exchange import BUDGET, PLATFORM, timeout_of
from aiaas_async.http.request import Handler, found_by
from aiaas_async.http.v2compression import compressed
from aiaas_async.http.v2config import config_of
from aiaas_async.http.v2exchange import (
    call_for,
    control_object,
    count_unread,
    found_record,
    ready_record,
    reply,
    unsupported,
)
from aiaas_async.http.v2generate import generate, generate_stream
from aiaas_async.http.v2logging import change_log_settings, log_settings
from aiaas_async.http.v2models import (
    V2,
    index,
    load,
    metadata_of,
    statistics_of,
    unload,
)
from aiaas_async.http.v2trace import TRACER, change_trace_settings, timestamps, trace_settings
from aiaas_async.http.wholereply import WholeReply
from aiaas_async.registry.records import VersionRecord
from aiaas_async.service.calls import CallAnswer
from aiaas_async.service.platform import Platform
from aiaas_async.wire.open_inference import (
    HEADER_LENGTH,
    InferRequest,
    Model,
    read_request,
    takes_long,
    tensors_at,
)
from aiaas_async.wire.v2left import left_as_it_came
from aiaas_async.wire.v2reply import (
    NO_LISTS,
    InferReply,
    is_short,
    long_lists,
    write_reply,
    writes_long,
)
from aiaas_async.wire.weight import LONG_BODY

EXTENSIONS: Final = (
    "classification",
    "sequence",
    "sequence(string_id)",
    "model_repository",
    "model_repository(unload_dependents)",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
    "generate",
)
# Only where the nodes' mailboxes go by priority.
SCHEDULE_POLICY: Final = "schedule_policy"


async def live(_: web.Request) -> web.StreamResponse:
    """200 whenever the event loop turns."""
    return web.Response()


async def ready(request: web.Request) -> web.StreamResponse:
    """200 while requests are taken and every node has a worker, else 400."""
    platform = request.app[PLATFORM]
    states = [node.status()["state"] for node in platform.cluster.nodes.values()]
    serving = not platform.stopping.is_set() and all(state == "serving" for state in states)
    return web.Response(status=200 if serving else 400)


async def server_metadata(request: web.Request) -> web.StreamResponse:
    extensions = list(EXTENSIONS)
    if request.app[PLATFORM].settings.schedule == "priority":
        extensions.append(SCHEDULE_POLICY)
    return reply({"name": "aiaas-async", "version": __version__, "extensions": extensions})


async def model_metadata(request: web.Request) -> web.StreamResponse:
    """Name, versions, inputs and outputs of a model."""
    return reply(metadata_of(request.app[PLATFORM], ready_record(request)))


async def model_ready(request: web.Request) -> web.StreamResponse:
    """200 when the version answers calls, else 400."""
    record = found_record(request)
    now = request.app[PLATFORM].cluster.standings().of(record)
    if now.state != "ready" or not request.app[V2].is_ready(record):
        return reply({"error": "Model version not ready"}, 400)
    return web.Response()


async def model_config(request: web.Request) -> web.StreamResponse:
    """The version as the reference server's configuration file would have it."""
    return reply(config_of(request.app[PLATFORM], ready_record(request)))


async def model_statistics(request: web.Request) -> web.StreamResponse:
    """What was asked of one version, one model or all, over this protocol or another."""
    return reply({"model_stats": statistics_of(request.app, request.match_info)})


async def repository_index(request: web.Request) -> web.StreamResponse:
    """Every version and its state; `{"ready": true}` leaves out the others."""
    body = await control_object(request)
    only = body.get("ready", False)
    if not isinstance(only, bool):
        raise InvalidError("Invalid value for 'ready': expected a boolean")
    return reply(index(request.app, only_ready=only))


async def repository_load(request: web.Request) -> web.StreamResponse:
    """Load the latest version, and answer for the model again after an unload."""
    body = await control_object(request)
    await load(request.app, request.match_info["name"], body, timeout_of(request, {}))
    return web.Response()


async def repository_unload(request: web.Request) -> web.StreamResponse:
    """Free a model everywhere; this protocol refuses it until it is loaded again."""
    await control_object(request)
    await unload(request.app, request.match_info["name"])
    return web.Response()


async def infer(request: web.Request) -> web.StreamResponse:
    """Run a model over a batch."""
    app, record = request.app, ready_record(request)
    platform = app[PLATFORM]
    started = time.perf_counter_ns()
    try:
        asked = await _asked(request, record)
    except BaseException as error:
        count_unread(request, record, error, started)
        raise
    read = time.perf_counter_ns()
    outputs = tuple([output.name for output in asked.outputs])
    call = call_for(request, record, asked.inputs, asked.terms, outputs)
    answer = await platform.calls.call(call)
    written = time.perf_counter_ns()
    response = await _answer(platform, asked, answer)
    if hdrs.ACCEPT_ENCODING in request.headers:
        response = await compressed(request, response)
    tracer = app[TRACER]
    if tracer.on and tracer.samples(answer.model):
        await tracer.write(answer.model, timestamps(answer, started, read, written))
    return response


async def _asked(request: web.Request, record: VersionRecord) -> InferRequest:
    app, length = request.app, request.headers.get(HEADER_LENGTH)
    platform, model = app[PLATFORM], app[V2].model_for(record)
    limit = platform.settings.max_body_mb << 20
    pieces = at_once(request, limit)
    if pieces is None:
        patience = platform.settings.read_timeout_s
        pieces = await read_pieces(request, limit, app[BUDGET], patience)
    elif length is not None:  # so short that it is read in less time than it takes to leave it
        return _read(pieces, length, model)
    size = sum(map(len, pieces))
    if 0 < size <= LONG_BODY and (left := left_as_it_came(pieces, length, model)) is not None:
        return left
    if takes_long(size, length, model):
        return await platform.readers.read_infer(pieces, length, model)
    if size > LONG_BODY:
        return await platform.readers.in_thread(partial(_read, pieces, length, model))
    return _read(pieces, length, model)


def _read(pieces: list[bytes], length: str | None, model: Model) -> InferRequest:
    return read_request(aligned(pieces, tensors_at(length)), length, model, lazily=True)


async def _answer(platform: Platform, asked: InferRequest, answer: CallAnswer) -> web.Response:
    facts: dict[str, Any] = {
        "batch_size": answer.batch_size,
        "queue_us": answer.queue_us,
        "compute_us": answer.compute_us,
    }
    if answer.cached:
        facts["cached"] = True
    reply = InferReply(answer.model, answer.version, asked.id, answer.outputs, facts)
    if is_short(reply.arrays):
        body, length = write_reply(reply, asked.outputs)
    else:
        body, length = await _written(platform, reply, asked)
    if length is None:
        return WholeReply(body, "application/json")
    return WholeReply(body, "application/octet-stream", number=(HEADER_LENGTH, length))


async def _written(
    platform: Platform, reply: InferReply, asked: InferRequest
) -> tuple[bytes, int | None]:
    """What `write_reply` gives, elsewhere if that takes long."""
    lists = long_lists(reply.arrays, asked.outputs)
    texts = await platform.readers.write_json(lists) if lists else NO_LISTS
    if writes_long(reply.arrays, asked.outputs):
        return await asyncio.to_thread(write_reply, reply, asked.outputs, texts)
    return write_reply(reply, asked.outputs, texts)


async def named_repository(_: web.Request) -> web.StreamResponse:
    """There is one repository, and it has no name."""
    return unsupported("'repository_name' specification is not supported")


async def unrouted(request: web.Request) -> web.StreamResponse:
    """Say what no route of the protocol answers: another method, or nothing at all."""
    if allowed := found_by(request).allowed:
        raise MethodError("Method Not Allowed", {"allowed": list(allowed)})
    raise NotFoundError("Not Found")


async def no_shared_memory(request: web.Request) -> web.StreamResponse:
    """Nobody may hand this server memory of another process."""
    kind = "cuda" if request.path.startswith("/v2/cuda") else "system"
    return unsupported(f"the server does not support {kind} shared memory")


def _shared_memory_routes() -> list[tuple[str, str, Handler]]:
    return [
        (method, f"/v2/{kind}sharedmemory{region}/{action}", no_shared_memory)
        for kind in ("system", "cuda")
        for region in ("", "/region/{region}")
        for method, action in (("GET", "status"), ("POST", "register"), ("POST", "unregister"))
    ]


def _both(path: str, handler: Handler, method: str = "GET") -> list[tuple[str, str, Handler]]:
    """A row for the latest version and one for a named one."""
    model = "/v2/models/{name}"
    return [
        (method, model + path, handler),
        (method, model + "/versions/{version}" + path, handler),
    ]


ROUTES: Final[list[tuple[str, str, Handler]]] = [
    ("GET", "/v2", server_metadata),
    ("GET", "/v2/health/live", live),
    ("GET", "/v2/health/ready", ready),
    ("GET", "/v2/models/stats", model_statistics),
    *_both("", model_metadata),
    *_both("/ready", model_ready),
    *_both("/config", model_config),
    *_both("/stats", model_statistics),
    *_both("/infer", infer, "POST"),
    ("POST", "/v2/repository/index", repository_index),
    ("POST", "/v2/repository/models/{name}/load", repository_load),
    ("POST", "/v2/repository/models/{name}/unload", repository_unload),
    ("POST", "/v2/repository/{repository}/index", named_repository),
    ("POST", "/v2/repository/{repository}/models/{name}/load", named_repository),
    ("POST", "/v2/repository/{repository}/models/{name}/unload", named_repository),
    ("GET", "/v2/logging", log_settings),
    ("POST", "/v2/logging", change_log_settings),
    ("GET", "/v2/trace/setting", trace_settings),
    ("POST", "/v2/trace/setting", change_trace_settings),
    *_both("/trace/setting", trace_settings),
    *_both("/trace/setting", change_trace_settings, "POST"),
    *_both("/generate", generate, "POST"),
    *_both("/generate_stream", generate_stream, "POST"),
    *_shared_memory_routes(),
    ("*", "/v2", unrouted),
    ("*", "/v2/{path:.*}", unrouted),
]
