"""/openapi.json: the route table as OpenAPI 3.1; the texts are the handlers' own docstrings."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from aiaas_async.messages import Metadata
from aiaas_async.service.trainrequest import TrainRequest

_PARAMETER = re.compile(r"{(\w+)(?::[^}]*)?}")
_BODIES: dict[tuple[str, str], type] = {
    ("POST", "/register"): Metadata,
    ("POST", "/train"): TrainRequest,
}


def describe(routes: Sequence[tuple[str, str, Callable[..., Any]]]) -> dict[str, Any]:
    """The document for (method, path, handler) of each route."""
    kinds = list(dict.fromkeys(_BODIES.values()))
    schemas, components = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}"
    )
    by_kind = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, Any] = {}
    for method, path, handler in routes:
        plain = _PARAMETER.sub(r"{\1}", path)
        body = _BODIES.get((method, path))
        operation = _operation(path, handler, by_kind.get(body) if body else None)
        paths.setdefault(plain, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "aiaas-async", "version": "0.1.0"},
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(
    path: str, handler: Callable[..., Any], schema: dict[str, Any] | None
) -> dict[str, Any]:
    text = (handler.__doc__ or handler.__name__.replace("_", " ")).strip()
    found: dict[str, Any] = {
        "operationId": f"{handler.__module__.rpartition('.')[2]}_{handler.__name__}",
        "summary": text.splitlines()[0],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PARAMETER.findall(path)
        ],
        "responses": {
            "2XX": {"description": "done"},
            "default": {"description": "a problem (RFC 9457) with a stable `code`"},
        },
    }
    if schema is not None:
        media = ("application/json", "application/msgpack")
        found["requestBody"] = {"content": {kind: {"schema": schema} for kind in media}}
    return found
