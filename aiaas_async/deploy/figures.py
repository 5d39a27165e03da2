"""What to expect of each piece of a split: seconds of compute, bytes it takes and gives. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiaas_async.deploy.costs import estimate_costs, hop_seconds
from aiaas_async.nn.dependence import needed
from aiaas_async.nn.network import Network
from aiaas_async.nn.shards import Segment, Step, TensorPlan
from aiaas_async.nn.split import boundary_bytes, spec_bytes
from aiaas_async.nn.submodel import Submodel, value_specs

Seconds = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """`seconds` of compute for a batch; bytes of one item's values on their way in and out;
    `largest` is the most of them that one job or one answer carries."""

    seconds: float
    bytes_in: int = 0
    bytes_out: int = 0
    largest: int = 0

    def moving(self, batch: int) -> float:
        """Seconds of a job to the piece and back, beside its compute."""
        return hop_seconds(batch * (self.bytes_in + self.bytes_out))


def of_whole(network: Network, seconds: Seconds) -> Figures:
    specs = value_specs(network)
    given = sum(spec_bytes(spec) for spec in network.inputs)
    answered = sum(spec_bytes(specs[name]) for name in network.graph.outputs)
    return Figures(sum(seconds.values()), given, answered, max(given, answered))


def of_stage(stage: Submodel, seconds: Seconds) -> Figures:
    moved = boundary_bytes(stage)
    return Figures(sum(seconds[layer] for layer in stage.layers), *moved, max(moved))


def of_shards(
    plan: TensorPlan, whole: Network, seconds: Seconds, batch: int
) -> tuple[list[Figures], float]:
    """Each shard's figures over all segments, and the seconds a batch takes."""
    estimated = _estimates(whole, batch)
    slower = {name: seconds[name] / estimate for name, estimate in estimated.items() if estimate}
    shares = [_share(shard, slower, batch) for shard in plan.shards]
    totals, latency = [Figures(0.0)] * len(plan.shards), 0.0
    for segment in plan.segments:
        found = _of_steps(plan, segment, shares)
        moved = batch * sum(each.bytes_in + each.bytes_out for each in found.values())
        latency += max(each.seconds for each in found.values()) + hop_seconds(moved)
        for shard, each in found.items():
            totals[shard] = _sum(totals[shard], each)
    return totals, latency


def _of_steps(plan: TensorPlan, segment: Segment, shares: Sequence[Seconds]) -> dict[int, Figures]:
    return {
        step.shard: _of_step(plan.shards[step.shard], step, shares[step.shard])
        for step in segment.steps
    }


def _of_step(shard: Submodel, step: Step, seconds: Seconds) -> Figures:
    specs = value_specs(shard.network)
    run = needed(shard.network.graph, step.outputs)
    inward, outward = (
        sum(spec_bytes(specs[name]) for name in names) for names in (step.inputs, step.outputs)
    )
    spent = sum(seconds[node.name] for node in run)
    return Figures(spent, inward, outward, max(inward, outward))


def _share(shard: Submodel, slower: Seconds, batch: int) -> Seconds:
    """A shard's seconds by layer: as estimated, times what the whole layer takes more."""
    found = _estimates(shard.network, batch)
    return {name: estimate * slower.get(name, 1.0) for name, estimate in found.items()}


def _estimates(network: Network, batch: int) -> Seconds:
    return {cost.layer: cost.seconds for cost in estimate_costs(network, batch)}


def _sum(a: Figures, b: Figures) -> Figures:
    return Figures(
        a.seconds + b.seconds,
        a.bytes_in + b.bytes_in,
        a.bytes_out + b.bytes_out,
        max(a.largest, b.largest),
    )
