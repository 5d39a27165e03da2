"""A request and its reply, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiaas_async.client.body import Body
from aiaas_async.client.failures import decode


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is quoted already. `repeatable`: sending it twice does what sending it once does.
    `patient`: a refusal is worth waiting and asking again."""

    method: str
    path: str
    body: Body | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    repeatable: bool = True
    patient: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def value(self) -> Any:
        """The decoded body. Raises `UnexpectedAnswerError`."""
        return decode(self.headers.get("Content-Type", ""), self.body)
