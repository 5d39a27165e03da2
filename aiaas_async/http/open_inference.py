"""/v2: the Open Inference Protocol, as Triton's and KServe's clients speak it.

The first dimension of every tensor is the batch. Errors are `{"error": text}`, with the reference
server's statuses and words. Versions are this platform's strings; a whole number is also the
version that equals it ("1" finds 1.0); without one the latest answers.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import msgspec
from aiohttp import web

from aiaas_async import errors
from aiaas_async.errors import AiaasError, MethodError, NotFoundError
from aiaas_async.http.body import read_body
from aiaas_async.http.exchange import BUDGET, PLATFORM, tenant_of, timeout_of
from aiaas_async.http.exchange import answering as answering_by
from aiaas_async.http.request import Handler, found_by
from aiaas_async.http.status import headers_of
from aiaas_async.http.v2models import (
    V2,
    called_version,
    config_of,
    find,
    index,
    load,
    metadata_of,
    ready_version,
    statistics_of,
    unload,
)
from aiaas_async.http.wholereply import WholeReply
from aiaas_async.names import ModelRef
from aiaas_async.registry.records import VersionRecord
from aiaas_async.service.calls import CallAnswer, CallRequest
from aiaas_async.wire.open_inference import (
    HEADER_LENGTH,
    InferRequest,
    read_request,
    takes_long,
    tensors_at,
)
from aiaas_async.wire.v2reply import InferReply, write_reply, writes_long

# Of a bytes object's data, as CPython lays it out.
ALIGNMENT: Final = 16
EXTENSIONS: Final = (
    "classification",
    "model_configuration",
    "model_repository",
    "binary_tensor_data",
    "parameters",
    "statistics",
)
# The nearest class up the tree that stands here decides; what the reference server has no
# status for is a bad request.
_STATUS: Final[dict[type[AiaasError], int]] = {
    AiaasError: 500,
    errors.RequestError: 400,
    errors.ForbiddenOriginError: 403,
    errors.MisdirectedError: 421,
    errors.MethodError: 405,
    errors.NotFoundError: 404,
    errors.NotReadyError: 503,
    errors.CorruptError: 503,
    errors.CapacityError: 503,
    errors.DeadlineError: 503,
    errors.WorkerError: 503,
    errors.DivergedError: 400,
    errors.CancelledJobError: 400,
}


def answering(handler: Handler) -> Handler:
    """`handler`, with whatever it raises answered in the protocol's form."""
    return answering_by(handler, refusal)


def refusal(request: web.Request, error: AiaasError) -> web.Response:
    """`error` as the protocol has it."""
    status = next(_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS)
    headers = headers_of(error, status)
    if isinstance(error, MethodError):
        headers["Allow"] = ", ".join(error.details["allowed"])
    response = _reply({"error": error.message}, status, headers)
    if not request.content.at_eof():
        # The rest of a refused body is not read: the connection cannot be used again.
        response.force_close()
    return response


def _reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    response = WholeReply(msgspec.json.encode(value), "application/json", status)
    response.headers.update(headers or {})
    return response


async def live(_: web.Request) -> web.StreamResponse:
    """200 whenever the event loop turns."""
    return web.Response()


async def ready(request: web.Request) -> web.StreamResponse:
    """200 while requests are taken and every node has a worker, else 400."""
    platform = request.app[PLATFORM]
    states = [node.status()["state"] for node in platform.cluster.nodes.values()]
    serving = not platform.stopping.is_set() and all(state == "serving" for state in states)
    return web.Response(status=200 if serving else 400)


async def server_metadata(_: web.Request) -> web.StreamResponse:
    from aiaas_async import __version__  # noqa: PLC0415 - the package's own, once it is complete

    return _reply({"name": "aiaas-async", "version": __version__, "extensions": EXTENSIONS})


async def model_metadata(request: web.Request) -> web.StreamResponse:
    """Name, versions, inputs and outputs of a model."""
    return _reply(metadata_of(request.app[PLATFORM], _ready(request)))


async def model_ready(request: web.Request) -> web.StreamResponse:
    """200 when the version answers calls, else 400."""
    record = _found(request)
    if not request.app[V2].is_ready(record):
        return _reply({"error": "Model version not ready"}, 400)
    return web.Response()


async def model_config(request: web.Request) -> web.StreamResponse:
    """The version as the reference server's configuration file would have it."""
    return _reply(config_of(request.app[PLATFORM], _ready(request)))


async def model_statistics(request: web.Request) -> web.StreamResponse:
    """What was asked over this protocol, of one version, one model or all."""
    return _reply({"model_stats": statistics_of(request.app, request.match_info)})


async def repository_index(request: web.Request) -> web.StreamResponse:
    """Every version and its state; `{"ready": true}` leaves out the others."""
    body = await _object(request)
    only = body.get("ready", False)
    if not isinstance(only, bool):
        raise errors.InvalidError("Invalid value for 'ready': expected a boolean")
    return _reply(index(request.app, only_ready=only))


async def repository_load(request: web.Request) -> web.StreamResponse:
    """Load the latest version, and answer for the model again after an unload."""
    body = await _object(request)
    await load(request.app, request.match_info["name"], body, timeout_of(request, {}))
    return web.Response()


async def repository_unload(request: web.Request) -> web.StreamResponse:
    """Free a model everywhere; this protocol refuses it until it is loaded again."""
    await _object(request)
    await unload(request.app, request.match_info["name"])
    return web.Response()


async def infer(request: web.Request) -> web.StreamResponse:
    """Run a model over a batch."""
    record = _ready(request)
    counter = request.app[V2].counter(record.ref)
    started = time.perf_counter_ns()
    try:
        asked = await _asked(request, record)
        answer = await request.app[PLATFORM].calls.call(_call(request, asked, record))
        written = time.perf_counter_ns()
        response = await _answer(asked, answer)
    except BaseException:
        counter.failed(time.perf_counter_ns() - started)
        raise
    rows = len(next(iter(asked.inputs.values())))
    version = ModelRef(answer.model, answer.version)  # an alias may share its calls
    request.app[V2].counter(version).succeeded(answer, rows, started, written)
    return response


async def _asked(request: web.Request, record: VersionRecord) -> InferRequest:
    settings = request.app[PLATFORM].settings
    limit, patience = settings.max_body_mb << 20, settings.read_timeout_s
    length, model = request.headers.get(HEADER_LENGTH), request.app[V2].model_for(record)
    lead = -tensors_at(length) % ALIGNMENT
    raw = await read_body(request, limit, request.app[BUDGET], patience, lead)
    body = memoryview(raw)[lead:]
    if not takes_long(body, length, model):
        return read_request(body, length, model)
    return await request.app[PLATFORM].readers.read_infer(body, length, model)


def _call(request: web.Request, asked: InferRequest, record: VersionRecord) -> CallRequest:
    wanted = {"timeout_ms": asked.timeout_us / 1000} if asked.timeout_us else {}
    return CallRequest(
        inputs=asked.inputs,
        model=record.ref.name,
        version=called_version(request.app, record, request.match_info.get("version")),
        timeout_s=timeout_of(request, wanted),
        outputs=tuple(output.name for output in asked.outputs),
        tenant=tenant_of(request),
    )


async def _answer(asked: InferRequest, answer: CallAnswer) -> web.Response:
    facts = {
        "batch_size": answer.batch_size,
        "queue_us": answer.queue_us,
        "compute_us": answer.compute_us,
    }
    reply = InferReply(answer.model, answer.version, asked.id, answer.outputs, facts)
    if writes_long(reply.arrays, asked.outputs):
        body, length = await asyncio.to_thread(write_reply, reply, asked.outputs)
    else:
        body, length = write_reply(reply, asked.outputs)
    if length is None:
        return WholeReply(body, "application/json")
    response = WholeReply(body, "application/octet-stream")
    response.headers[HEADER_LENGTH] = str(length)
    return response


async def unsupported(request: web.Request) -> web.StreamResponse:
    """What the reference server has and this one does not: 501."""
    what = "logging" if request.path.endswith("logging") else "tracing"
    return _reply({"error": f"the server does not support {what}"}, 501)


async def named_repository(_: web.Request) -> web.StreamResponse:
    """There is one repository, and it has no name."""
    return _reply({"error": "'repository_name' specification is not supported"}, 501)


async def unrouted(request: web.Request) -> web.StreamResponse:
    """Say what no route of the protocol answers: another method, or nothing at all."""
    if allowed := found_by(request).allowed:
        raise MethodError("Method Not Allowed", {"allowed": list(allowed)})
    raise NotFoundError("Not Found")


def _found(request: web.Request) -> VersionRecord:
    info = request.match_info
    return find(request.app, info["name"], info.get("version"))


def _ready(request: web.Request) -> VersionRecord:
    info = request.match_info
    return ready_version(request.app, info["name"], info.get("version"))


_MOST_CONTROL: Final = 1 << 20


async def _object(request: web.Request) -> dict[str, Any]:
    """The object in the body, empty when there is none; no Content-Type is asked for."""
    patience = request.app[PLATFORM].settings.read_timeout_s
    body = await read_body(request, _MOST_CONTROL, request.app[BUDGET], patience)
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.MalformedError("failed to parse the request JSON buffer") from None


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
    *((method, "/v2/logging", unsupported) for method in ("GET", "POST")),
    *((method, "/v2/trace/setting", unsupported) for method in ("GET", "POST")),
    *((method, "/v2/models/{name}/trace/setting", unsupported) for method in ("GET", "POST")),
    ("*", "/v2", unrouted),
    ("*", "/v2/{path:.*}", unrouted),
]
