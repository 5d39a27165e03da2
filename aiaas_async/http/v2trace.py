"""`/v2/trace/setting`: which requests leave their timestamps in the trace file.

A trace is one line of JSON in a file that the server chose, in its data directory. A request that
is traced waits for its line to be written, so there is no queue to bound.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from aiaas_async.errors import InvalidError
from aiaas_async.http.v2exchange import control_object, reply, unsupported
from aiaas_async.http.v2models import ready_version
from aiaas_async.names import clip
from aiaas_async.requestid import REQUEST_ID
from aiaas_async.service.calls import CallAnswer

logger = logging.getLogger(__name__)

FOLDER: Final = "traces"
FILE: Final = "trace.jsonl"
MOST_BYTES: Final = 256 << 20  # of traces since the start; then no more are written
MOST_FILES: Final = 1000  # a frequency of 1 would make one of each request; the last takes the rest
_RANGES: Final = {
    "trace_rate": (0, 2**32 - 1),
    "trace_count": (-1, 2**31 - 1),
    "log_frequency": (0, 2**32 - 1),
}
_DEFAULTS: Final[Mapping[str, Any]] = {
    "trace_level": ["OFF"],
    "trace_rate": 1000,
    "trace_count": -1,
    "log_frequency": 0,
}


@dataclass(slots=True)
class Scope:
    """The settings of the server or of one model; a model has what it does not set itself from
    the server. `seen` counts requests."""

    own: dict[str, Any] = field(default_factory=dict)
    seen: int = 0


class Tracer:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = Scope()
        self._models: dict[str, Scope] = {}
        self._ids = itertools.count(1)
        self._written = self._files = self._in_file = 0
        self._full = False
        self.on = False  # whether any scope traces: asked for every request

    def value(self, model: str | None, name: str) -> Any:
        """A setting in force for `model`, or for the server."""
        scope = self._models.get(model or "")
        if scope is not None and name in scope.own:
            return scope.own[name]
        return self._server.own.get(name, _DEFAULTS[name])

    def settings(self, model: str | None) -> dict[str, Any]:
        """All of them, in the protocol's form: texts."""
        numbers = {name: str(self.value(model, name)) for name in _RANGES}
        return {
            "trace_file": FILE,
            "trace_level": self.value(model, "trace_level"),
            **numbers,
            "trace_mode": "triton",
        }

    def change(self, model: str | None, wanted: Mapping[str, Any]) -> None:
        """Set what is `wanted`; null takes a setting back. Raises `InvalidError`."""
        read = {name: _read(name, value) for name, value in wanted.items()}
        scope = self._server if model is None else self._models.setdefault(model, Scope())
        for name, value in read.items():
            if value is None:
                scope.own.pop(name, None)
            else:
                scope.own[name] = value
        if model is not None and not scope.own:
            del self._models[model]
        scopes = (None, *self._models)
        self.on = any(self.value(each, "trace_level") != ["OFF"] for each in scopes)

    def samples(self, model: str) -> bool:
        """Whether this request of `model` is to be traced; it counts."""
        scope = self._models.get(model, self._server)
        rate, left = self.value(model, "trace_rate"), self.value(model, "trace_count")
        if self.value(model, "trace_level") == ["OFF"] or not rate or not left:
            return False
        scope.seen += 1
        if scope.seen % rate:
            return False
        if left > 0:
            owner = scope if "trace_count" in scope.own else self._server
            owner.own["trace_count"] = left - 1
        return True

    async def write(self, model: str, trace: Mapping[str, Any]) -> None:
        """Append a trace to the file whose turn it is."""
        line = msgspec.json.encode({"id": next(self._ids), **trace}) + b"\n"
        if self._written + len(line) > MOST_BYTES:
            if not self._full:
                logger.warning("%d MiB of traces were written; there are no more", MOST_BYTES >> 20)
            self._full = True
            return
        self._written += len(line)
        frequency = self.value(model, "log_frequency")
        name = f"{FILE}.{self._files}" if frequency else FILE
        self._in_file += 1
        if frequency and self._in_file >= frequency and self._files < MOST_FILES - 1:
            self._files, self._in_file = self._files + 1, 0
        try:
            await asyncio.to_thread(self._append, name, line)
        except OSError as error:
            logger.warning("a trace could not be written: %s", error.strerror)

    def _append(self, name: str, line: bytes) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with (self._folder / name).open("ab", buffering=0) as file:
            file.write(line)


def _read(name: str, value: Any) -> Any:
    """The value of a setting, out of the protocol's texts; None takes it back."""
    if name not in _DEFAULTS:
        raise InvalidError(
            f"no trace setting is called {clip(name)}; known: {', '.join(_DEFAULTS)}"
        )
    if value is None:
        return None
    return _levels(value) if name == "trace_level" else _number(name, value)


def _levels(value: Any) -> list[str]:
    levels = [value] if isinstance(value, str) else value
    if not isinstance(levels, list) or not levels:
        raise InvalidError(
            "Unable to parse 'trace_level': attempt to access JSON non-array as array"
        )
    if "OFF" in levels and len(levels) > 1:
        raise InvalidError("Expect only one trace level 'OFF' is specified")
    for level in levels:
        if level not in ("OFF", "TIMESTAMPS"):
            raise InvalidError(f"trace level {clip(level)} is not supported; use OFF or TIMESTAMPS")
    return [levels[0]]


def _number(name: str, value: Any) -> int:
    text = value.strip() if isinstance(value, str) else value
    low, high = _RANGES[name]
    try:
        number = int(text) if isinstance(text, str) and len(text) <= 12 else _refuse(name, value)
    except ValueError:
        _refuse(name, value)
    if not low <= number <= high:
        raise InvalidError(
            f"Unable to parse '{name}', value is out of range [ {low}, {high} ], got: {number}"
        )
    return number


def _refuse(name: str, value: Any) -> Any:
    raise InvalidError(f"Unable to parse '{name}', got: {clip(value)}")


def timestamps(answer: CallAnswer, started: int, asked: int, written: int) -> dict[str, Any]:
    """A trace of a request that came at `started`, was read at `asked`, and whose outputs were
    known at `written` (nanoseconds of `perf_counter`). What lies between the two is as the node
    measured it."""
    now = time.perf_counter_ns()
    computed = asked + answer.queue_us * 1000
    points = {
        "REQUEST_START": started,
        "QUEUE_START": asked,
        "COMPUTE_START": computed,
        "COMPUTE_END": min(computed + answer.compute_us * 1000, written),
        "REQUEST_END": now,
    }
    wall = time.time_ns() - now
    return {
        "model_name": answer.model,
        "model_version": answer.version,
        "request_id": REQUEST_ID.get(),
        "node": answer.node,
        "batch_size": answer.batch_size,
        "timestamps": [{"name": name, "ns": at + wall} for name, at in points.items()],
    }


TRACER: web.AppKey[Tracer] = web.AppKey("v2_tracer", Tracer)


async def trace_settings(request: web.Request) -> web.StreamResponse:
    return reply(request.app[TRACER].settings(_model(request)))


async def change_trace_settings(request: web.Request) -> web.StreamResponse:
    model, wanted = _model(request), await control_object(request)
    if "trace_file" in wanted:
        return unsupported("trace file location can not be updated through network protocol")
    if wanted.pop("trace_mode", None) not in (None, "triton"):
        return unsupported("trace mode can not be updated through network protocol")
    request.app[TRACER].change(model, wanted)
    return reply(request.app[TRACER].settings(model))


def _model(request: web.Request) -> str | None:
    name = request.match_info.get("name")
    return None if name is None else ready_version(request.app, name, None).ref.name
