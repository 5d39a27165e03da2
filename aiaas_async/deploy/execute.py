"""Running a split version: its submodels one after the other, or side by side with reductions.

Whoever runs a plan says how a piece is run (`Run`): through a node's mailbox, or a worker. The
values between pieces lie in the server's memory, from where they are laid into the next worker's
slot; a reduction happens there too and costs about what laying its pieces does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from aiaas_async.compute.frames import Array
from aiaas_async.deploy.plan import Plan
from aiaas_async.errors import InputError, InvalidError
from aiaas_async.nn.batches import minibatches
from aiaas_async.nn.network import Network
from aiaas_async.nn.shards import Segment, TensorPlan, reduce_values
from aiaas_async.nn.submodel import Submodel, blank_inputs, computed_inputs, join_rows

Arrays = Mapping[str, Array]


class Run(Protocol):
    """Run piece `place` of a plan on `arrays`; the answer has the `outputs` asked for."""

    def __call__(
        self, place: int, arrays: Arrays, outputs: tuple[str, ...]
    ) -> Awaitable[Arrays]: ...


async def execute(plan: Plan, arrays: Arrays, rows: int, run: Run) -> dict[str, Array]:
    """The outputs of the whole version for a batch of `rows`.

    More than `micro_batch` rows go as several batches; in a pipeline they are under way at the
    same time. The first failure is raised, once what else is under way was cancelled.
    """
    network = plan.network
    if network is None or plan.nodes[0].submodel is None:
        raise InvalidError("a version that is not split is run by its nodes as it is")
    for spec in network.inputs:
        if spec.name not in arrays:
            raise InputError(f"input {spec.name!r} is missing; given: {sorted(arrays)}")
    given = computed_inputs(network, arrays)
    size = plan.micro_batch
    if rows <= size:
        return await _one(plan, network, given, run)
    batches = [{name: a[at] for name, a in given.items()} for at in minibatches(rows, size)]
    # A worker takes two jobs: one to compute, one that waits.
    room = asyncio.Semaphore(2 * len(plan.nodes) if plan.tensor is None else 2)
    found = await _all([_in_turn(room, plan, network, batch, run) for batch in batches])
    return {name: join_rows([each[name] for each in found]) for name in found[0]}


async def _in_turn(
    room: asyncio.Semaphore, plan: Plan, network: Network, arrays: Arrays, run: Run
) -> dict[str, Array]:
    async with room:
        return await _one(plan, network, arrays, run)


async def warm(plan: Plan, run: Run) -> None:
    """Run every piece once on a full batch of zeros, so that its weights are in memory."""
    if plan.network is not None:
        rows = plan.micro_batch
        await execute(plan, blank_inputs(plan.network.inputs, rows), rows, run)


def _one(
    plan: Plan, network: Network, arrays: Arrays, run: Run
) -> Coroutine[Any, Any, dict[str, Array]]:
    if plan.tensor is not None:
        return run_shards(plan.tensor, arrays, run)
    stages = [each.submodel for each in plan.nodes if each.submodel is not None]
    return run_stages(stages, network.graph.outputs, arrays, run)


async def run_stages(
    stages: Sequence[Submodel], outputs: Sequence[str], arrays: Arrays, run: Run
) -> dict[str, Array]:
    """One batch through the stages; a value is dropped after the last stage that reads it."""
    values = dict(arrays)
    for place, stage in enumerate(stages):
        given = {name: values[name] for name in stage.inputs}
        values |= await run(place, given, stage.outputs)
        read = {name for later in stages[place + 1 :] for name in later.inputs}
        values = {name: a for name, a in values.items() if name in read or name in outputs}
    return {name: values[name] for name in outputs}


async def run_shards(plan: TensorPlan, arrays: Arrays, run: Run) -> dict[str, Array]:
    """One batch through the segments, each on all its shards at once."""
    values = dict(arrays)
    for segment in plan.segments:
        values |= await _run_segment(segment, values, run)
    return {name: values[target] for name, target in plan.outputs.items()}


async def _run_segment(segment: Segment, values: Arrays, run: Run) -> dict[str, Array]:
    answers = await _all(
        [
            run(step.shard, {name: values[name] for name in step.inputs}, step.outputs)
            for step in segment.steps
        ]
    )
    return {
        each.target: reduce_values(
            each.reduce, [answer[each.source] for answer in answers if each.source in answer]
        )
        for each in segment.reductions
    }


async def _all(under_way: Sequence[Awaitable[Any]]) -> list[Any]:
    tasks = [asyncio.ensure_future(each) for each in under_way]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
