"""Errors become HTTP here and nowhere else: one table of statuses, one shape of body (RFC 9457)."""

from __future__ import annotations

from typing import Any, Final

from aiaas_async import errors

# The nearest class up the tree that stands here decides.
STATUS: Final[dict[type[errors.AiaasError], int]] = {
    errors.AiaasError: 500,
    errors.RequestError: 400,
    errors.ForbiddenOriginError: 403,
    errors.MethodError: 405,
    errors.MisdirectedError: 421,
    errors.UnsupportedMediaError: 415,
    errors.TooLargeError: 413,
    errors.InvalidError: 422,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.PreconditionError: 412,
    errors.CapacityError: 503,
    errors.QuotaError: 429,
    errors.MemoryBudgetError: 507,
    errors.StorageError: 507,
    errors.DeadlineError: 504,
    errors.WorkerError: 503,
    errors.DivergedError: 422,
    errors.CancelledJobError: 409,
    errors.InternalError: 500,
}


def status_of(error: errors.AiaasError) -> int:
    """The HTTP status of `error`."""
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


MAX_DETAIL: Final = 2000


def _cut(message: str) -> str:
    """A message may repeat what was sent, but not all of it."""
    return message if len(message) <= MAX_DETAIL else message[: MAX_DETAIL - 1] + "…"


def problem(error: errors.AiaasError, status: int) -> dict[str, Any]:
    """The body of an error, as RFC 9457 has it, with our stable `code` and the details."""
    return {
        "type": f"urn:aiaas:error:{error.code}",
        "title": error.title,
        "status": status,
        "detail": _cut(error.message),
        "code": error.code,
        **({"details": error.details} if error.details else {}),
    }


def headers_of(error: errors.AiaasError, status: int) -> dict[str, str]:
    """Retry-After in whole seconds (RFC 9110), rounded up; 503 always has one. Allow, where the
    method was wrong."""
    headers = {}
    if isinstance(error, errors.MethodError):
        headers["Allow"] = ", ".join(error.details.get("allowed", ()))
    wait = error.retry_after
    if wait is None and status == 503:
        wait = 1.0
    if wait is not None:
        headers["Retry-After"] = str(max(1, int(-(-wait // 1))))
    return headers
