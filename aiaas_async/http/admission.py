"""Admission: how many connections are open, in total and from one address.

One too many is answered in one write, before anything of it was read, and closed. Connections from
this machine count in total only: a proxy before the server is one address, and is many clients.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from http import HTTPStatus
from typing import Final

from aiaas_async.errors import AiaasError, OverloadedError, QuotaError
from aiaas_async.http.status import headers_of, problem, status_of
from aiaas_async.wire.codecs import JSON

# Closed at once, with what the client sent unread, its answer would be lost.
LINGER_S: Final = 1.0
MAX_LINGERING: Final = 64


class Admission:
    """Counts open connections; a limit of 0 is none."""

    def __init__(self, limit: int, limit_per_address: int) -> None:
        self.limit, self.limit_per_address = limit, limit_per_address
        self.open, self.lingering = 0, 0
        self._by_address: Counter[str] = Counter()

    def admit(self, address: str) -> AiaasError | None:
        """Count a connection from `address`, or say why it is one too many."""
        if 0 < self.limit <= self.open:
            return OverloadedError(
                f"{self.limit} connections are open already; try again later", retry_after=1.0
            )
        if 0 < self.limit_per_address <= self._by_address[address] and not _is_local(address):
            return QuotaError(
                f"{self.limit_per_address} connections are open from this address already; use "
                "those, or close some",
                retry_after=1.0,
            )
        self.open += 1
        self._by_address[address] += 1
        return None

    def leave(self, address: str) -> None:
        """A connection that was admitted is gone."""
        self.open -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def __repr__(self) -> str:
        return f"<Admission: {self.open} open, {self.lingering} being turned away>"


def _is_local(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class TurnedAway(asyncio.Protocol):
    """Gives a connection its refusal, and reads on for a moment without looking."""

    def __init__(self, transport: asyncio.Transport, admission: Admission) -> None:
        self._transport, self._admission = transport, admission
        self._timer: asyncio.TimerHandle | None = None

    def answer(self, error: AiaasError) -> None:
        if self._admission.lingering >= MAX_LINGERING:
            self._transport.abort()
            return
        self._admission.lingering += 1
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)
        self._transport.write(refusal_of(error))
        self._transport.write_eof()

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - a protocol's
        if self._timer is not None:
            self._timer.cancel()
            self._admission.lingering -= 1


def refusal_of(error: AiaasError) -> bytes:
    """A whole response, for a connection on which no request was read."""
    status = status_of(error)
    body = JSON.encode(problem(error, status))
    fields = {
        "Server": "aiaas",
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers_of(error, status),
    }
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {text}" for name, text in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
