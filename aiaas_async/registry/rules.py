"""Rules of a change that need more than a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from aiaas_async.errors import ConflictError, InvalidError, PreconditionError
from aiaas_async.messages import Metadata, TensorSpec
from aiaas_async.names import clip
from aiaas_async.registry.records import AliasRecord, ModelRecord, Traffic, VersionRecord
from aiaas_async.registry.rows import exact
from aiaas_async.registry.signature import agreed
from aiaas_async.registry.versions import parse


def completed(
    registered: Metadata,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    graph: Mapping[str, Any] | None,
) -> Metadata:
    """What was registered with what was found; checked like any metadata."""
    found = {
        "inputs": agreed("inputs", registered.inputs, inputs),
        "outputs": agreed("outputs", registered.outputs, outputs),
        "graph": registered.graph if graph is None else dict(graph),
    }
    return exact(msgspec.structs.replace(registered, **found))


def check_same(known: VersionRecord, given: Metadata) -> None:
    """Raise `ConflictError` naming the fields in which `given` is not what was registered."""
    if known.state == "corrupt" and not known.registered.inputs:
        raise ConflictError(f"{known.ref} lost its metadata: {known.reason}; delete it first")
    fields = given.__struct_fields__
    differing = [f for f in fields if getattr(known.registered, f) != getattr(given, f)]
    if differing:
        stored = {f: clip(getattr(known.registered, f)) for f in differing}
        raise ConflictError(
            f"{known.ref} is registered with other metadata ({', '.join(differing)} differ); "
            "register another version, or delete this one first",
            {"differing": differing, "stored": stored},
        )


def check_distinct(model: ModelRecord, version: str) -> None:
    """Raise `ConflictError` if another version of `model` is the same to PEP 440 ("1.0" and
    "1.0.0"): a specifier could not tell them apart, and `latest` would go by their spelling."""
    parsed = parse(version)
    if parsed is None:
        return
    for known in model.versions:
        if parse(known) == parsed:
            raise ConflictError(
                f"{clip(version)} means the same version as {model.name}:{known}, which is "
                f"registered already; use {known}, or a version that differs in number",
                {"known": known},
            )


def check_revision(name: str, alias: str, known: AliasRecord | None, expected: int) -> None:
    """Raise `PreconditionError` unless the alias is at the revision expected; 0: absent."""
    revision = 0 if known is None else known.revision
    if revision != expected:
        now = f"is at revision {revision}" if known else "does not exist"
        wanted = f"revision {expected}" if expected else "that it did not exist"
        raise PreconditionError(
            f"alias {alias} of {name} {now}, but the request expected {wanted}; "
            "read it again and decide anew",
            {"revision": revision, "expected": expected},
        )


def check_ready(record: VersionRecord) -> None:
    """Raise `ConflictError` unless calls that are sent to this version can be answered."""
    if record.state != "ready":
        mend = "delete it and " if record.state == "corrupt" else ""
        raise ConflictError(
            f"{record.ref} is {record.state}, not ready: {mend}commit its files first",
            {"version": record.ref.version, "state": record.state},
        )


def check_traffic(version: str, traffic: Traffic) -> None:
    """Raise `InvalidError` for a share of calls that says nothing, or contradicts itself."""
    for role in ("canary", "shadow"):
        if getattr(traffic, role) == version:
            raise InvalidError(
                f"the {role} {clip(version)} is the alias's own version; name another, or leave "
                f"{role} out"
            )
    if traffic.weight and traffic.canary is None:
        raise InvalidError(
            f"weight {traffic.weight:g} is a canary's share of the calls, and there is no canary; "
            "name one, or leave weight out"
        )
