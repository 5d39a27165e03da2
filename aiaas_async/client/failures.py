"""What went wrong, as a typed error: from a problem body, or because no answer came.

Three failures only a client can see:

    AiaasError
    ├── UnreachableError        unreachable        no server answers at the address
    ├── DisconnectedError       disconnected       the connection broke before the answer
    └── UnexpectedAnswerError   unexpected_answer  something answered, but not this platform
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from aiaas_async import errors
from aiaas_async.errors import AiaasError, from_code
from aiaas_async.names import clip


class UnreachableError(AiaasError):
    code = "unreachable"
    title = "No server"


class DisconnectedError(AiaasError):
    code = "disconnected"
    title = "Connection lost"


class UnexpectedAnswerError(AiaasError):
    code = "unexpected_answer"
    title = "Not an answer of this platform"


# For answers without a code of ours: a proxy's, or another server's.
_BY_STATUS: Final[dict[int, type[AiaasError]]] = {
    404: errors.NotFoundError,
    413: errors.TooLargeError,
    429: errors.QuotaError,
    503: errors.OverloadedError,
    504: errors.DeadlineError,
}


def decode(content_type: str, body: bytes) -> Any:
    """A reply's value. Raises `UnexpectedAnswerError`.

    Not the server's decoder: that one bounds the structure of what strangers send, and a list of
    10,000 labels is a sound answer.
    """
    bare = content_type.partition(";")[0].strip().lower()
    try:
        if bare.endswith("msgpack"):
            return msgspec.msgpack.decode(body)
        if bare.endswith("json"):
            return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnexpectedAnswerError(f"the answer is not the {bare} it says: {error}") from error
    raise UnexpectedAnswerError(
        f"the answer is {clip(bare)}, not MessagePack or JSON: is an aiaas server at this address?"
    )


ID_HEADER: Final = "X-Request-Id"


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> AiaasError:
    """The error that an answer outside 2xx stands for; its `request_id` is the answer's."""
    error = _error_of(status, headers, body)
    error.request_id = headers.get(ID_HEADER)
    return error


def _error_of(status: int, headers: Mapping[str, str], body: bytes) -> AiaasError:
    wait = parse_retry_after(headers.get("Retry-After"), datetime.now(UTC))
    try:
        problem = decode(headers.get("Content-Type", ""), body)
    except UnexpectedAnswerError:
        problem = None
    if isinstance(problem, dict) and isinstance(problem.get("code"), str):
        details = problem.get("details")
        return from_code(
            problem["code"],
            str(problem.get("detail") or problem.get("title") or problem["code"]),
            details if isinstance(details, dict) else None,
            wait,
        )
    return _foreign(status, headers, body, wait)


def _foreign(
    status: int, headers: Mapping[str, str], body: bytes, wait: float | None
) -> AiaasError:
    cls = _BY_STATUS.get(status, UnexpectedAnswerError)
    where = f", to {clip(headers['Location'])}" if "Location" in headers else ""
    said = clip(body[:200].decode("utf-8", "replace").strip()) if body.strip() else "no body"
    return cls(f"the server answered {status}{where}, without a code of ours: {said}", None, wait)


def parse_retry_after(raw: str | None, now: datetime) -> float | None:
    """Seconds to wait (RFC 9110: a number of seconds, or a date); None if it says nothing."""
    if raw is None:
        return None
    try:
        seconds = float(raw)
    except ValueError:
        try:
            at = parsedate_to_datetime(raw)
        except ValueError:
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def job_error(job: Mapping[str, Any]) -> AiaasError | None:
    """Why a job that is over has no result; None when it has one."""
    if job.get("state") == "succeeded":
        return None
    facts = job.get("error") or {}
    default = "cancelled" if job.get("state") == "cancelled" else "internal"
    message = facts.get("message") or f"job {job.get('job')} ended {job.get('state')}"
    return from_code(facts.get("code", default), message, facts.get("details"))
