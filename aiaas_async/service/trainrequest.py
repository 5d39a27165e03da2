"""A training request: what to train, on what, as what, and who may be promoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from aiaas_async.errors import InvalidError
from aiaas_async.messages import Metadata, TensorSpec, parse_metadata
from aiaas_async.names import LATEST, check_name, check_version
from aiaas_async.service.asked import read_asked
from aiaas_async.training.gate import parse_gate
from aiaas_async.training.plan import TrainingPlan


class RegisterAs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Point `alias` at the result if it passes `gate` and nobody moved the alias meanwhile;
    else the version stays a candidate."""

    alias: str
    gate: str | None = None


class TrainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to train, on what, as what: a `graph` from the start; a `parent` version to go on
    from; or both, a graph whose parameters are the parent's where it has them."""

    model: str
    version: str
    dataset: str
    graph: dict[str, Any] | None = None
    parent: str | None = None
    plan: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    alias: str | None = None
    register_as: RegisterAs | None = None


def parse_request(body: Mapping[str, Any]) -> TrainRequest:
    """Raises `InvalidError` naming the field at fault."""
    request = read_asked(body, TrainRequest, "training request")
    check_name(request.model, "model name")
    check_version(request.version)
    if request.alias is not None:
        _check_alias(request.alias)
    if request.graph is None and request.parent is None:
        raise InvalidError(
            "give 'graph', a layer graph to train from the start, or 'parent', a version "
            "(name:version) to train further, or both: the parent's weights in a new graph"
        )
    return request


def _check_alias(alias: str) -> None:
    """Now, not when the training is done."""
    check_name(alias, "alias")
    if alias == LATEST:
        raise InvalidError("the alias 'latest' is computed; choose another")


def request_of(facts: Mapping[str, Any]) -> TrainRequest:
    """The request of a job, from its record."""
    return msgspec.convert(
        {name: facts[name] for name in TrainRequest.__struct_fields__ if name in facts},
        TrainRequest,
    )


def metadata_of(
    request: TrainRequest,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    metrics: Mapping[str, float],
    lineage: dict[str, Any] | None,
) -> Metadata:
    """The new version's metadata: what the user gave, completed by what came out."""
    fields: dict[str, Any] = {
        "inputs": msgspec.to_builtins(inputs),
        "outputs": msgspec.to_builtins(outputs),
        **request.metadata,
        "name": request.model,
        "version": request.version,
        "runtime": "numpy",
        "lineage": lineage,
    }
    given = parse_metadata(fields)
    return msgspec.structs.replace(given, metrics={**given.metrics, **metrics})


def alias_asked(request: TrainRequest) -> str | None:
    """The alias that the result may take."""
    return request.alias if request.register_as is None else request.register_as.alias


def alias_of(request: TrainRequest, plan: TrainingPlan) -> str | None:
    """`alias_asked`, with its gate checked."""
    asked = request.register_as
    if asked is None:
        return request.alias
    if request.alias is not None:
        raise InvalidError("give either 'alias' or 'register_as', which may have a gate")
    _check_alias(asked.alias)
    if asked.gate is not None:
        parse_gate(asked.gate, plan.validation)
    return asked.alias
