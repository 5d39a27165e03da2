"""Cutting a pipeline again by what its stages took. Pure.

Estimates give the layers of a stage their shares, a measurement of the stage their sum. So a
pipeline that was loaded and warmed knows enough to be cut better, with no job for measuring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from aiaas_async.deploy.costs import HOP_S, estimate_costs
from aiaas_async.deploy.plan import ModelFacts, NodePlan, Plan, plan
from aiaas_async.errors import InvalidError

# Loading stages anew costs more than a slightly better cut gives back; and of stages that take
# less than a job's way to a worker and back, a measurement shows mostly noise.
_WORTH_MOVING: Final = 1.1
_WORTH_SECONDS: Final = HOP_S


def measured_layers(old: Plan, seconds: Sequence[float]) -> dict[str, float]:
    """Seconds by layer for `ModelFacts.measured`, from those of each stage of a pipeline.

    `seconds` are of compute for `max_batch_size` rows; of several micro-batches, their sum.
    Raises `InvalidError` for another number of times than stages.
    """
    if old.tensor is not None or len(seconds) != len(old.nodes):
        raise InvalidError(
            f"a time for each of the {len(old.nodes)} stages of a pipeline is needed, got "
            f"{len(seconds)}"
        )
    batch, found = old.request.max_batch_size, dict[str, float]()
    for placed, measured in zip(old.nodes, seconds, strict=True):
        found |= _shared_out(placed, measured, batch)
    return found


def rebalanced(
    old: Plan, seconds: Sequence[float], facts: ModelFacts, nodes: Mapping[str, int]
) -> Plan | None:
    """A pipeline on the same nodes by the times measured on `old`; None if it is not worth it.

    `nodes` are the free bytes as if `old` were gone. Raises as `measured_layers` does.
    """
    measured = measured_layers(old, seconds)
    same = {placed.node: nodes[placed.node] for placed in old.nodes}
    asked = msgspec.structs.replace(old.request, nodes=len(same))
    new = plan(asked, replace(facts, measured=measured), same)
    batch = old.request.max_batch_size
    slowest = max(
        time + placed.figures.moving(batch)
        for time, placed in zip(seconds, old.nodes, strict=True)
        if placed.figures is not None
    )
    assert new.items_per_s is not None
    fastest = batch / new.items_per_s
    worth = slowest >= _WORTH_MOVING * fastest and slowest - fastest >= _WORTH_SECONDS
    return new if worth else None


def _shared_out(placed: NodePlan, measured: float, batch: int) -> dict[str, float]:
    if placed.submodel is None:
        raise InvalidError("a version that is not split has no stages to balance")
    costs = estimate_costs(placed.submodel.network, batch)
    estimated = sum(cost.seconds for cost in costs)
    return {cost.layer: cost.seconds * measured / estimated for cost in costs}
