"""Which request is being served: one id that its reply, its errors and its log lines share.

The caller's own `X-Request-Id` if it is fit for a log line, else one of ours. It travels in the
task's context (PEP 567), so no function has to hand it on. The clients send the one that is set
where they are used: a service that calls this platform hands its own on.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from aiaas_async.errors import InvalidError

MAX_LENGTH: Final = 128
REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="")

_SERVER: Final = secrets.token_hex(4)  # ids of two runs of the server differ
_numbers: Final = itertools.count(1)


def begin(given: str | None) -> str:
    """Set and return the id of the request that the running task serves."""
    found = given if given is not None and _is_fit(given) else f"{_SERVER}-{next(_numbers):x}"
    REQUEST_ID.set(found)
    return found


@contextmanager
def request_id(given: str) -> Iterator[str]:
    """What the clients ask for inside of this `with` carries the id `given`.

    Raises `InvalidError` for one that no log line should hold.
    """
    if not _is_fit(given):
        raise InvalidError(
            f"a request id is 1 to {MAX_LENGTH} printable ASCII characters without a space, got "
            f"{given[:MAX_LENGTH]!r}"
        )
    token = REQUEST_ID.set(given)
    try:
        yield given
    finally:
        REQUEST_ID.reset(token)


def _is_fit(text: str) -> bool:
    return 0 < len(text) <= MAX_LENGTH and text.isascii() and text.isprintable() and " " not in text


class WithRequestId(logging.Filter):
    """Gives every log record `request_id`: "-" outside of requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = REQUEST_ID.get() or "-"
        return True
