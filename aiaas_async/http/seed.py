"""The seed surface: POST /register, /discover, /call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from aiaas_async.discovery.query import Query
from aiaas_async.errors import InvalidError, InvalidNameError
from aiaas_async.http.exchange import (
    CONTROL_BYTES,
    PLATFORM,
    origin_of,
    read_object,
    reply,
    timeout_of,
)
from aiaas_async.http.longreply import reply_call
from aiaas_async.messages import render_metadata
from aiaas_async.names import LATEST, clip
from aiaas_async.service.calls import CallAnswer, CallRequest
from aiaas_async.wire.tensors import is_tensor

_FIELDS = frozenset({"model", "version", "inputs", "key", "timeout_ms", "outputs", "tenant"})


async def register(request: web.Request) -> web.StreamResponse:
    body, codec = await read_object(request, CONTROL_BYTES)
    record = await request.app[PLATFORM].models.register(body)
    return reply(codec, render_metadata(record.registered))


async def discover(request: web.Request) -> web.StreamResponse:
    body, codec = await read_object(request, CONTROL_BYTES)
    matches = await request.app[PLATFORM].models.discover(Query.parse(body))
    standings = request.app[PLATFORM].cluster.standings()
    best = render_metadata(matches.ranked[0].record.metadata)
    best["matches"] = [
        {
            "name": found.record.metadata.name,
            "version": found.record.metadata.version,
            "score": round(found.score, 4),
            "state": standings.of(found.record).state,
            "metadata": render_metadata(found.record.metadata),
        }
        for found in matches.ranked
    ]
    return reply(codec, best)


async def call(request: web.Request) -> web.StreamResponse:
    if "?" in request.raw_path:  # or "?model=…" would be answered by whatever takes such inputs
        query = clip(request.raw_path.partition("?")[2])
        raise InvalidError(
            f"/call takes no query, got {query}; the body says it all: inputs, or an object of "
            "'model', 'inputs' and what else is wanted"
        )
    body, codec = await read_object(request)
    answer = await request.app[PLATFORM].calls.call(_call_request(request, body))
    return await reply_call(request, codec, render_call(answer), answer.outputs)


def _call_request(request: web.Request, body: dict[str, Any]) -> CallRequest:
    """The full form has `inputs` (an object of values); anything else is just the inputs."""
    inputs = body.get("inputs")
    if type(inputs) is not dict or is_tensor(inputs):
        return CallRequest(body, timeout_s=timeout_of(request, {}), origin=origin_of(request))
    if not body.keys() <= _FIELDS:
        unknown = next(field for field in body if field not in _FIELDS)
        raise InvalidError(
            f"a call has no field {clip(unknown)}; fields: {', '.join(sorted(_FIELDS))}"
        )
    # "name:version", as the command line has it; a name has no colon.
    model = _text(body, "model")
    name, colon, version = (model or "").partition(":")
    if model is not None and not (name and (version or not colon)):
        missing = "version" if name else "name"
        raise InvalidNameError(
            f"model {clip(model)} has no {missing}: give NAME, NAME:VERSION or NAME:ALIAS"
        )
    return CallRequest(
        inputs=inputs,
        model=name or None,
        version=_text(body, "version") or version or LATEST,
        key=_text(body, "key"),
        timeout_s=timeout_of(request, body),
        outputs=_outputs(body),
        origin=origin_of(request, body),
    )


def _text(body: Mapping[str, Any], field: str) -> str | None:
    value = body.get(field)
    if value is not None and not isinstance(value, str):
        raise InvalidError(f"'{field}' must be a string, got {clip(value)}")
    return value


def _outputs(body: Mapping[str, Any]) -> tuple[str, ...] | None:
    value = body.get("outputs")
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(n, str) for n in value):
        raise InvalidError(f"'outputs' must be a list of output names, got {clip(value)}")
    return tuple(value)


def render_call(answer: CallAnswer) -> dict[str, Any]:
    """The body of an answer; its arrays are left to the codec."""
    timing: dict[str, Any] = {
        "queue_us": answer.queue_us,
        "compute_us": answer.compute_us,
        "batch_size": answer.batch_size,
        "node": answer.node,
    }
    if answer.cached:
        timing["cached"] = True
    return {
        "model": answer.model,
        "version": answer.version,
        "outputs": answer.outputs,
        "timing": timing,
    }
