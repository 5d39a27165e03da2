"""A placement: the pieces of a plan on their nodes, loaded, warmed, called, and let go.

A pipeline's stages are timed before anybody calls them, and cut anew where that makes it faster:
estimates know a layer's shapes, not what it costs on this machine.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import msgspec

from aiaas_async.compute.frames import Array
from aiaas_async.deploy.balance import rebalanced
from aiaas_async.deploy.execute import Run, execute, warm
from aiaas_async.deploy.plan import ModelFacts, Plan
from aiaas_async.errors import AiaasError, InvalidError, StoppingError
from aiaas_async.nn.submodel import Submodel, blank_inputs
from aiaas_async.node.node import Node
from aiaas_async.node.work import Call, Hold, Release, Result, Servable, cost_of
from aiaas_async.schedule.origin import A_CALL, Origin
from aiaas_async.service.passes import Passes

logger = logging.getLogger(__name__)

_LOAD_TIMEOUT_S: Final = 600.0
_DRAIN_S: Final = 30.0
_TIMED_PASSES: Final = 3
Arrays = Mapping[str, Array]


@dataclass(slots=True)
class Placement:
    """The plan, and for each piece its node and what that node serves. `under_way` counts calls,
    so that an old placement can drain."""

    plan: Plan
    nodes: tuple[Node, ...]
    servables: tuple[Servable, ...]
    passes: Passes | None = None  # of a version whose layers are divided
    under_way: int = 0
    quiet: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, call: Call, deadline: float, origin: Origin) -> Result:
        """The answer to `call`, whose arrays fit the version's signature."""
        self.under_way += 1
        self.quiet.clear()
        try:
            if not self.plan.split:
                return await _call_replica(self, call, deadline, origin)
            if self.passes is not None:
                return await self.passes.call(call, deadline, origin)
            return await _call_pieces(self, call, deadline, origin)
        finally:
            self.under_way -= 1
            if not self.under_way:
                self.quiet.set()

    def replica(self) -> tuple[Node, Servable]:
        """The replica with the least to do. Raises `InvalidError` when the version is split."""
        if self.plan.split:
            raise InvalidError(
                "this version is deployed in several pieces; answers in parts and sequences need "
                "one that is whole"
            )
        place = min(range(len(self.nodes)), key=lambda i: self.nodes[i].load)
        return self.nodes[place], self.servables[place]

    async def drain(self) -> None:
        """Wait for calls under way, then free the pieces."""
        try:
            if self.under_way:
                await asyncio.wait_for(self.quiet.wait(), _DRAIN_S)
        except TimeoutError:
            logger.warning("%d calls of a replaced placement did not end", self.under_way)
        await self.release()

    async def release(self) -> None:
        """Free the pieces on their nodes, which do it also when nobody waits any more."""
        if self.passes is not None:
            await self.passes.stop()
        waiting = []
        for node, servable in zip(self.nodes, self.servables, strict=True):
            try:
                waiting.append(_ask(node, Release(servable.id)))
            except StoppingError:
                continue  # the node ends, and all it holds with it
        for done in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(done, AiaasError) and not isinstance(done, StoppingError):
                logger.warning("a piece was not freed in time: %s", done.message)


async def place(plan: Plan, whole: Servable, nodes: Mapping[str, Node]) -> Placement:
    """Load every piece of `whole` onto its node and warm it; on any failure nothing stays."""
    mark = secrets.token_hex(3)
    servables = []
    for number, placed in enumerate(plan.nodes):
        named = replace(whole, piece=f"#{mark}.{number}")
        part = placed.submodel
        servables.append(named if part is None else _part_of(named, part, plan.micro_batch))
    chosen = tuple(nodes[placed.node] for placed in plan.nodes)
    placement = Placement(plan, chosen, tuple(servables))
    if plan.tensor is not None:
        placement.passes = Passes(partial(_call_pieces, placement), chosen[0].limits)
    try:
        await _together(
            _ask(node, Hold(servable, pin=True))
            for node, servable in zip(chosen, servables, strict=True)
        )
        if plan.split:
            await warm(plan, _runner(placement, _deadline(_LOAD_TIMEOUT_S)))
    except BaseException:
        await placement.release()
        raise
    return placement


async def place_balanced(
    plan: Plan, facts: ModelFacts, whole: Servable, nodes: Mapping[str, Node]
) -> Placement:
    """As `place`; a pipeline is cut by what its stages take, where that is worth loading anew."""
    placement = await place(plan, whole, nodes)
    if not plan.split or plan.tensor is not None:
        return placement
    free = {each.node: nodes[each.node].free_bytes + each.nbytes for each in plan.nodes}
    try:
        seconds = await stage_seconds(placement)
        better = await asyncio.to_thread(rebalanced, plan, seconds, facts, free)
    except BaseException:
        await placement.release()
        raise
    if better is None:
        return placement
    await placement.release()  # nobody calls it yet, and there may be no room for both
    try:
        return await place(better, whole, nodes)
    except AiaasError as error:
        logger.warning("a better cut could not be placed: %s", error.message)
        return await place(plan, whole, nodes)


async def stage_seconds(placement: Placement) -> list[float]:
    """Seconds of compute that each piece takes for `max_batch_size` rows: the least of a few
    passes over zeros."""
    plan = placement.plan
    assert plan.network is not None
    rows, least = plan.request.max_batch_size, [math.inf] * len(plan.nodes)
    for _ in range(_TIMED_PASSES):
        spent = [0.0] * len(plan.nodes)

        def note(place: int, result: Result, spent: list[float] = spent) -> None:
            spent[place] += result.compute_s

        run = _runner(placement, _deadline(_LOAD_TIMEOUT_S), note)
        await execute(plan, blank_inputs(plan.network.inputs, rows), rows, run)
        least = [min(pair) for pair in zip(least, spent, strict=True)]
    return least


def _part_of(whole: Servable, submodel: Submodel, micro_batch: int) -> Servable:
    """A piece's servable. Its batches are micro-batches: joined again in the mailbox they would
    leave the other stages idle."""
    network = submodel.network
    return Servable(
        ref=whole.ref,
        artifact=msgspec.structs.replace(whole.artifact, part=submodel.part.to_data()),
        inputs=network.inputs,
        outputs=network.outputs,
        nbytes=submodel.nbytes,
        max_batch_size=micro_batch,
        max_delay_s=whole.max_delay_s,
        allow_nonfinite=True,  # what lies between the pieces is nobody's input
        piece=whole.piece,
    )


async def _call_replica(
    placement: Placement, call: Call, deadline: float, origin: Origin
) -> Result:
    """By the replica with the least to do."""
    node, servable = placement.replica()
    message = msgspec.structs.replace(call, servable=servable)
    return await node.submit(message, cost_of(call.arrays), deadline, origin).reply


async def _call_pieces(placement: Placement, call: Call, deadline: float, origin: Origin) -> Result:
    parts: list[Result] = []
    run = _runner(placement, deadline, lambda _, result: parts.append(result), origin)
    arrays = await execute(placement.plan, call.arrays, call.rows, run)
    wanted = {name: arrays[name] for name in call.outputs or arrays}
    return Result(
        node="+".join(dict.fromkeys(part.node for part in parts)),
        arrays=wanted,
        queue_s=sum(part.queue_s for part in parts),
        compute_s=sum(part.compute_s for part in parts),
        batch_size=max(part.batch_size for part in parts),
    )


def _runner(
    placement: Placement,
    deadline: float,
    note: Callable[[int, Result], None] = lambda _, __: None,
    origin: Origin = A_CALL,
) -> Run:
    """How a piece is run (`execute.Run`): by its node. `note` hears what each piece answered."""

    async def run(place: int, arrays: Arrays, outputs: tuple[str, ...]) -> Arrays:
        rows = len(next(iter(arrays.values())))
        message = Call(placement.servables[place], arrays, rows, outputs)
        node, cost = placement.nodes[place], cost_of(arrays)
        result = await node.submit(message, cost, deadline, origin).reply
        note(place, result)
        return result.arrays

    return run


def _deadline(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def _ask(node: Node, message: Hold | Release) -> Awaitable[Result]:
    return node.submit(message, 0, _deadline(_LOAD_TIMEOUT_S)).reply


async def _together(waiting: Iterable[Awaitable[Result]]) -> None:
    """All of `waiting`, to their end; then the first failure, if any."""
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
