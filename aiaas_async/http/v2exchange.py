"""One request of the Open Inference Protocol and its answer: errors in the protocol's form, bodies,
versions by the names in the path."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
from aiohttp import web

from aiaas_async import errors
from aiaas_async.errors import AiaasError
from aiaas_async.http.body import read_body
from aiaas_async.http.exchange import (
    BUDGET,
    PLATFORM,
    origin_of,
    refused_with,
    timeout_of,
)
from aiaas_async.http.exchange import answering as answering_by
from aiaas_async.http.request import Handler
from aiaas_async.http.status import headers_of
from aiaas_async.http.tally import RouteTally
from aiaas_async.http.v2models import V2, called_version, find, ready_version
from aiaas_async.http.wholereply import WholeReply
from aiaas_async.registry.records import VersionRecord
from aiaas_async.service.calls import CallRequest
from aiaas_async.wire.numerals import decode
from aiaas_async.wire.sequences import control_arrays
from aiaas_async.wire.v2parameters import Terms

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
_LAST_PRIORITY: Final = 1 << 31
_ANY_TIME: Final[Mapping[str, float]] = MappingProxyType({})

# Read in the event loop: numbers that are slow to read take it 0.1 ms a KiB.
_CONTROL_BYTES: Final = 256 << 10


def answering(handler: Handler, tally: RouteTally) -> Handler:
    """`handler`, with whatever it raises answered in the protocol's form."""
    return answering_by(handler, tally, refusal)


def refusal(request: web.Request, error: AiaasError) -> web.Response:
    """`error` as the protocol has it."""
    status = next(_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS)
    response = reply({"error": error.message}, status, headers_of(error, status))
    return refused_with(request, response)


def reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """`value` as JSON."""
    response = WholeReply(msgspec.json.encode(value), "application/json", status)
    response.headers.update(headers or {})
    return response


def unsupported(text: str) -> web.Response:
    """What the reference server refuses with 501."""
    return reply({"error": text}, 501)


async def control_body(request: web.Request) -> bytes:
    """A body that holds no tensors; no Content-Type is asked for."""
    patience = request.app[PLATFORM].settings.read_timeout_s
    return await read_body(request, _CONTROL_BYTES, request.app[BUDGET], patience)


async def control_object(request: web.Request) -> dict[str, Any]:
    """The object in the body, empty when there is none."""
    body = await control_body(request)
    if not body.strip():
        return {}
    try:
        return msgspec.convert(decode(body), dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.MalformedError("failed to parse the request JSON buffer") from None


def found_record(request: web.Request) -> VersionRecord:
    """The version that the path names. Raises `NotFoundError`."""
    info = request.match_info
    return find(request.app, info["name"], info.get("version"))


def ready_record(request: web.Request) -> VersionRecord:
    """The same, if it answers calls. Raises `NotReadyError` as well."""
    info = request.match_info
    return ready_version(request.app, info["name"], info.get("version"))


def count_unread(
    request: web.Request, record: VersionRecord, error: BaseException, started: int
) -> None:
    """A request that could not be read has failed for the version it was for. `started` is of
    `time.perf_counter_ns`."""
    statistics = request.app[PLATFORM].models.statistics.of(record.ref)
    statistics.failed(error, time.perf_counter_ns() - started)


def call_for(
    request: web.Request,
    record: VersionRecord,
    inputs: Mapping[str, Any],
    terms: Terms,
    outputs: tuple[str, ...] | None = None,
) -> CallRequest:
    """The call of `record` that a request of the protocol stands for."""
    model = request.app[V2].model_for(record)
    if model.controls:
        rows = len(next(iter(inputs.values())))
        inputs = {**inputs, **control_arrays(model.controls, terms.mark, rows, model.name)}
    return CallRequest(
        inputs=inputs,
        model=record.ref.name,
        version=called_version(request.app, record, request.match_info.get("version")),
        timeout_s=timeout_of(request, _time_for(terms) if terms.timeout_us else _ANY_TIME),
        outputs=outputs,
        origin=origin_of(request, priority=_urgency(terms) if terms.priority else 0),
    )


def _time_for(terms: Terms) -> Mapping[str, float]:
    """The time that `terms` ask for, as a body of the platform's own would."""
    return {"timeout_ms": terms.timeout_us / 1000}


def _urgency(terms: Terms) -> int:
    """The platform's priority, of which the highest goes first: above 0 for requests that name
    one, of which the protocol has the lowest go first."""
    return _LAST_PRIORITY - min(terms.priority, _LAST_PRIORITY - 1)
