"""/openapi.json: the route table as OpenAPI 3.1; the texts are the handlers' own docstrings, the
schemas those of the structs that bodies are read into and replies are made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from aiaas_async.data.reports import PutReport
from aiaas_async.data.schema import Declaration
from aiaas_async.discovery.query import QueryBody
from aiaas_async.http.schemas import (
    Answer,
    Call,
    Deployed,
    Deploying,
    DeploymentList,
    Differentiating,
    DryRun,
    ItemsBody,
    Joining,
    Pointing,
    V2Infer,
)
from aiaas_async.jobs.record import JobRecord
from aiaas_async.messages import FileEntry, Metadata, TensorSpec
from aiaas_async.service.batch import BatchRequest
from aiaas_async.service.trainrequest import TrainRequest

_PARAMETER = re.compile(r"{(\w+)(?::[^}]*)?}")
_MEDIA: Final = ("application/json", "application/msgpack")


class VersionMetadata(Metadata, frozen=True, omit_defaults=True):
    """Metadata as it travels: an input or output known by its name only is the bare name. Wider
    than what it extends, since it only describes."""

    inputs: tuple[str | TensorSpec, ...]  # type: ignore[assignment]
    outputs: tuple[str | TensorSpec, ...]  # type: ignore[assignment]


# A record as `render` of jobs/board.py shows it: every field, and the id is called job.
Job: Final = msgspec.defstruct(
    "Job",
    [
        ("job" if field.name == "id" else field.name, field.type)
        for field in msgspec.structs.fields(JobRecord)
    ],
)
BODIES: Final[dict[tuple[str, str], type]] = {
    ("POST", "/register"): VersionMetadata,
    ("POST", "/discover"): QueryBody,
    ("POST", "/call"): Call,
    ("POST", "/models/{name}/versions/{version}/loss"): Differentiating,
    ("POST", "/models/{name}/versions/{version}/gradient"): Differentiating,
    ("PUT", "/models/{name}/aliases/{alias}"): Pointing,
    ("PUT", "/datasets/{name}"): Declaration,
    ("POST", "/datasets/{name}/items"): ItemsBody,
    ("POST", "/deployments"): Deploying,
    ("POST", "/nodes"): Joining,
    ("POST", "/v2/models/{name}/infer"): V2Infer,
    ("POST", "/v2/models/{name}/versions/{version}/infer"): V2Infer,
    ("POST", "/train"): TrainRequest,
    ("POST", "/batch"): BatchRequest,
}
# The shapes that a reply may have.
REPLIES: Final[dict[tuple[str, str], tuple[type, ...]]] = {
    ("POST", "/register"): (VersionMetadata,),
    ("POST", "/call"): (Answer,),
    ("PUT", "/models/{name}/versions/{version}/files/{path:.*}"): (FileEntry,),
    ("POST", "/datasets/{name}/items"): (PutReport,),
    ("GET", "/deployments"): (DeploymentList,),
    ("POST", "/deployments"): (Deployed, DryRun),
    ("GET", "/deployments/{id}"): (Deployed,),
    ("POST", "/train"): (Job,),
    ("POST", "/batch"): (Job,),
    ("GET", "/jobs/{id}"): (Job,),
    ("DELETE", "/jobs/{id}"): (Job,),
}


def describe(routes: Sequence[tuple[str, str, Callable[..., Any]]]) -> dict[str, Any]:
    """The document for (method, path, handler) of each route."""
    replies = [kind for kinds in REPLIES.values() for kind in kinds]
    kinds = list(dict.fromkeys([*BODIES.values(), *replies]))
    schemas, components = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}"
    )
    by_kind = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, Any] = {}
    for method, path, handler in routes:
        operation = _operation(path, handler)
        if (kind := BODIES.get((method, path))) is not None:
            media = _MEDIA[:1] if path.startswith("/v2/") else _MEDIA
            operation["requestBody"] = _content([by_kind[kind]], media)
        if shapes := REPLIES.get((method, path)):
            operation["responses"]["2XX"] |= _content([by_kind[kind] for kind in shapes])
        paths.setdefault(_PARAMETER.sub(r"{\1}", path), {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "aiaas-async", "version": "0.1.0"},
        "paths": paths,
        "components": {"schemas": components},
    }


def _content(schemas: Sequence[dict[str, Any]], media: Sequence[str] = _MEDIA) -> dict[str, Any]:
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}
    return {"content": {kind: {"schema": schema} for kind in media}}


def _operation(path: str, handler: Callable[..., Any]) -> dict[str, Any]:
    text = (handler.__doc__ or handler.__name__.replace("_", " ")).strip()
    return {
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
