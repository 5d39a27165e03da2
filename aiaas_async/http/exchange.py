"""One request and its answer: decoding by Content-Type, encoding by Accept, errors as problems.

Every handler is wrapped by `answering`, so no surface can forget a cap, a codec or the error table.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from aiohttp import hdrs, web

from aiaas_async.errors import (
    AiaasError,
    InternalError,
    InvalidError,
    MalformedError,
    TooLargeError,
    WorkerError,
)
from aiaas_async.http.body import aligned, at_once, joined, read_pieces
from aiaas_async.http.budget import BodyBudget
from aiaas_async.http.guard import check_origin
from aiaas_async.http.request import ID_HEADER, Handler, Request
from aiaas_async.http.status import headers_of, problem, status_of
from aiaas_async.http.tally import CALLER_LEFT, RouteTally
from aiaas_async.http.wholereply import WholeReply
from aiaas_async.names import check_name, clip
from aiaas_async.requestid import REQUEST_ID, begin
from aiaas_async.schedule.origin import A_CALL, CALLS, TENANT, Origin
from aiaas_async.service.platform import Platform
from aiaas_async.wire.codecs import JSON, Codec, codec_for, decode_msgpack, reply_codec
from aiaas_async.wire.longjson import LONG_BYTES, read_with_arrays
from aiaas_async.wire.skim import first_binary
from aiaas_async.wire.weight import LONG_BODY

logger = logging.getLogger(__name__)
access_logger = logging.getLogger("aiaas.access")

PLATFORM: web.AppKey[Platform] = web.AppKey("platform", Platform)
BUDGET: web.AppKey[BodyBudget] = web.AppKey("budget", BodyBudget)

# Bodies that describe something, as opposed to tensors and files.
CONTROL_BYTES = 1 << 20
_BEGIN = 1 << 10  # bytes of MessagePack, in which a call's first tensor begins
_SHORT_JSON = 1 << 12  # bytes in which no list is worth looking for
# Counted where the server stopped before it answered.
_UNANSWERED = 503
# Routes by which a server in need is watched.
_ALWAYS = frozenset(
    {"/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"}
)
# A million of them cost the checks that follow 2 s. The bound of MessagePack's maps.
MAX_FIELDS = 256

Refusal = Callable[[web.Request, AiaasError], web.Response]


def answering(handler: Handler, tally: RouteTally, refuse: Refusal | None = None) -> Handler:
    """`handler`, with whatever it raises answered by `refuse`, as a problem by default, and every
    request counted in `tally`."""
    refused, always = refuse or refusal, tally.pattern in _ALWAYS

    @functools.wraps(handler)
    async def answer(request: Request) -> web.StreamResponse:
        platform, budget = request.app[PLATFORM], request.app[BUDGET]
        settings, started = platform.settings, time.perf_counter()
        request_id = begin(request.headers.get(ID_HEADER))
        tally.under_way += 1
        status = _UNANSWERED
        try:
            try:
                check_origin(request, settings.allowed_hosts)
                if not always:
                    budget.check_room()
                response = await handler(request)
            except AiaasError as error:
                response = refused(request, error)
                _log_failure(tally.pattern, error)
            except (asyncio.CancelledError, ConnectionError):
                status = CALLER_LEFT if request.transport is None else _UNANSWERED
                raise
            except web.HTTPException as error:
                status = error.status
                raise
            except Exception:
                logger.exception("defect in %s", tally.pattern)
                text = f"a defect of the server; its log tells more under {request_id}"
                response = refused(request, InternalError(text))
            if platform.stopping.is_set():  # who asks again does so elsewhere, or later
                response.force_close()
            status = response.status
            return response
        finally:
            if request.share is not None:
                request.share.give_back()
            seconds = time.perf_counter() - started
            tally.under_way -= 1
            tally.ended(status, seconds)
            if settings.access_log:
                log_access(request, status, seconds)

    return answer


def _log_failure(pattern: str, error: AiaasError) -> None:
    """What a model failed at, under the request's id: its worker, which logs why, knows none."""
    if error.code == WorkerError.code:
        logger.warning("%s: %s", pattern, error.message)


def log_access(request: web.Request, status: int, seconds: float) -> None:
    """One JSON line; what the client wrote is escaped and cut."""
    fields = {
        "time": round(time.time(), 3),
        "method": request.method,
        "path": request.path[:200],
        "status": status,
        "ms": round(1000 * seconds, 3),
        "peer": request.remote,
        "request_id": REQUEST_ID.get(),
    }
    access_logger.info("%s", JSON.encode(fields).decode())


def refusal(request: web.BaseRequest, error: AiaasError) -> web.Response:
    """`error` as a response, in the encoding the caller understands."""
    status = status_of(error)
    codec = _codec_of_errors(request)
    media = "application/problem+json" if codec is JSON else codec.content_type
    response = WholeReply(codec.encode(problem(error, status)), media, status)
    response.headers.update(headers_of(error, status))
    return refused_with(request, response)


def refused_with(request: web.BaseRequest, response: web.Response) -> web.Response:
    """`response` as the refusal of `request`, whose body may not have been read to its end."""
    if not request.content.at_eof():
        # The rest of a refused body is not read: the connection cannot be used again.
        response.force_close()
    return response


def _codec_of_errors(request: web.BaseRequest) -> Codec:
    try:
        asked = codec_for(request.headers.get("Content-Type", JSON.content_type))
        return reply_codec(request.headers.get("Accept"), asked)
    except AiaasError:
        return JSON


async def read(request: web.Request, cap: int | None = None) -> tuple[Any, Codec]:
    """The decoded body and the codec to answer in. `cap` in bytes; default: the tensors' cap.

    Where tensors may come, long lists of numbers in JSON have become arrays."""
    headers, platform = request.headers, request.app[PLATFORM]
    codec = codec_for(headers.get(hdrs.CONTENT_TYPE))
    settings = platform.settings
    limit = cap if cap is not None else settings.max_body_mb << 20
    pieces = at_once(request, limit)
    if pieces is None:
        pieces = await read_pieces(request, limit, request.app[BUDGET], settings.read_timeout_s)
    if sum(map(len, pieces)) <= (_SHORT_JSON if codec is JSON else LONG_BYTES):
        value = codec.decode(joined(pieces))
    else:
        value = await _decode_long(pieces, codec, platform, tensors=cap is None)
    return value, reply_codec(headers.get(hdrs.ACCEPT), codec)


async def _decode_long(
    pieces: list[bytes], codec: Codec, platform: Platform, *, tensors: bool
) -> Any:
    """The value of a body of over `_SHORT_JSON` or `LONG_BYTES` bytes."""
    size = sum(map(len, pieces))
    if codec is not JSON:
        if size > LONG_BODY:
            return await platform.readers.in_thread(partial(_decode_msgpack, pieces))
        return _decode_msgpack(pieces)
    if size > LONG_BYTES:
        return await platform.readers.read_json(pieces, tensors=tensors)
    return read_with_arrays(joined(pieces)) if tensors else codec.decode(joined(pieces))


def _decode_msgpack(pieces: list[bytes]) -> Any:
    begin = pieces[0] if len(pieces[0]) >= _BEGIN else joined(pieces)
    return decode_msgpack(aligned(pieces, first_binary(begin[:_BEGIN])))


async def read_object(request: web.Request, cap: int | None = None) -> tuple[dict[str, Any], Codec]:
    """Like `read`, for bodies that must be an object."""
    value, codec = await read(request, cap)
    return as_object(value), codec


def as_object(value: Any) -> dict[str, Any]:
    """A decoded body, if it is an object. Raises `MalformedError`, `TooLargeError`."""
    if not isinstance(value, dict):
        raise MalformedError(f"the body must be an object, got {type(value).__name__}")
    if len(value) > MAX_FIELDS:
        raise TooLargeError(f"the body has {len(value)} fields, at most {MAX_FIELDS} are allowed")
    odd = [key for key in value if not isinstance(key, str)]
    if odd:
        raise MalformedError(f"the names of the body's fields must be texts, got {clip(odd[0])}")
    return value


def reply(codec: Codec, value: Any, status: int = 200, **headers: str) -> web.Response:
    """`value` encoded."""
    response = WholeReply(codec.encode(value), codec.content_type, status)
    if headers:
        response.headers.update({name.replace("_", "-"): text for name, text in headers.items()})
    return response


def answer_codec(request: web.Request) -> Codec:
    """The codec for requests without a body: Accept decides, JSON is the default."""
    return reply_codec(request.headers.get("Accept"), JSON)


def timeout_of(request: web.Request, body: Mapping[str, Any]) -> float:
    """Seconds this request may take: `timeout_ms` of the body or the X-Deadline-Ms header,
    else the default; never above the server's maximum."""
    settings = request.app[PLATFORM].settings
    asked: Any
    if "timeout_ms" in body:
        what, asked = "timeout_ms must be a positive number", body["timeout_ms"]
    else:
        what = "X-Deadline-Ms must be a positive whole number"
        asked = request.headers.get("X-Deadline-Ms")
    if asked is None:
        return settings.timeout_ms / 1000
    if isinstance(asked, str) and asked.isascii() and asked.isdigit():
        asked = int(asked[:12])
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not asked > 0:
        raise InvalidError(f"{what}, got {clip(asked)}")
    return float(min(asked, settings.max_timeout_ms)) / 1000


def tenant_of(request: web.Request, body: Mapping[str, Any] | None = None) -> str:
    """Whose request this is: `tenant` of the body, else the X-Tenant header, else the default."""
    asked: Any = (body or {}).get("tenant", request.headers.get("X-Tenant"))
    return TENANT if asked is None else check_name(asked, "tenant")


def origin_of(
    request: web.Request, body: Mapping[str, Any] | None = None, priority: int = 0
) -> Origin:
    """Where the call that `request` asks for comes from."""
    tenant = tenant_of(request, body)
    return A_CALL if tenant is TENANT and not priority else Origin(CALLS, tenant, priority)


def whole_query(request: web.Request, name: str, default: int, maximum: int) -> int:
    """A whole number of the query string between 0 and `maximum`."""
    raw = request.query.get(name)
    if raw is None:
        return default
    # Twelve digits at most: int() refuses texts of over 4,300.
    if not raw.isascii() or not raw.isdigit() or len(raw) > 12 or int(raw) > maximum:
        raise InvalidError(f"?{name}= must be 0 to {maximum}, got {clip(raw)}")
    return int(raw)
