"""What a training run came to: the lineage of its version, who is promoted, the job's result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiaas_async.jobs.record import JobRecord
from aiaas_async.registry.records import VersionRecord
from aiaas_async.service.adoption import Promotion
from aiaas_async.service.trainrequest import TrainRequest
from aiaas_async.training.gate import parse_gate

_RESULT: Final = ("metrics", "epochs", "steps", "samples", "history", "nodes", "verified")


def result_of(
    record: VersionRecord, alias: str | None, reason: str | None, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The job's result: `alias` was to move to `record`, and `reason` says why it did not; `facts`
    are the run's final ones, or, where they are lost, the version's lineage."""
    return {
        "model": record.ref.name,
        "version": record.ref.version,
        "alias": alias if reason is None else None,
        **({} if alias is None else _promoted(reason, record)),
        "digest": record.digest,
        **{name: facts[name] for name in _RESULT if name in facts},
    }


def lineage_of(record: JobRecord, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a version says of where it comes from."""
    request = record.request
    return {
        "job": record.id,
        "dataset": request["dataset"],
        "dataset_digest": request["dataset_digest"],
        "parent": request["parent"],
        "method": request["plan"]["method"],
        "seed": request["plan"]["seed"],
        "plan": request["plan"],
        "epochs": facts["epochs"],
        "steps": facts["steps"],
        "samples": facts["samples"],
        "metrics": facts["metrics"],
    }


def promotion_of(
    given: TrainRequest, request: Mapping[str, Any], facts: Mapping[str, Any]
) -> Promotion | None:
    """Which alias shall move, and why it must not after all, by the run's final `facts`."""
    asked, refusal = given.register_as, _unverified(facts.get("verified"))
    if asked is None:
        return None if given.alias is None else Promotion(given.alias, refusal=refusal)
    if refusal is None and asked.gate is not None:
        gate = parse_gate(asked.gate, request["plan"]["validation"])
        refusal = gate.refusal(facts["metrics"])
    return Promotion(asked.alias, request["_revision"], refusal)


def _unverified(found: Mapping[str, Any] | None) -> str | None:
    """Why a run that was to be verified is not to be trusted, if so."""
    if found is None or found["passed"]:
        return None
    return (
        f"after {found['steps']} steps its weights differ from those of one node by "
        f"{found['largest_difference']:.3g}; {found['tolerance']:g} is rounding"
    )


def _promoted(reason: str | None, record: VersionRecord) -> dict[str, Any]:
    if reason is None:
        return {"promoted": True}
    return {"promoted": False, "reason": reason, "candidate": record.candidate is not None}
