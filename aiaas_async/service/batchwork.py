"""How one task of a batch job is done: by a node's worker where the items lie, or, for a version
that is deployed in parts, through its deployment."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from aiaas_async.compute.scan import CHECKSUMS
from aiaas_async.node.node import Node
from aiaas_async.node.work import Call, Result, Servable
from aiaas_async.schedule.divide import Task
from aiaas_async.schedule.origin import Origin
from aiaas_async.service.batchdata import Reader, Results
from aiaas_async.service.deployment import Deployment
from aiaas_async.service.deployments import Deployments

_MESSAGE_BYTES: Final = 1024  # what a task weighs in a mailbox: the items stay where they are
_THROUGH_PARTS_S: Final = 600.0  # for one task, where the job has all the time


@dataclass(frozen=True, slots=True)
class Terms:
    """How the job wants to be run. `item_bytes` are those of an item's outputs, `input_bytes`
    those it is computed from; `deadline` is the loop's time."""

    servable: Servable
    outputs: tuple[str, ...]
    assignment: str
    task_items: int | None
    item_bytes: int
    input_bytes: int
    origin: Origin
    deadline: float | None


@dataclass(frozen=True, slots=True)
class Done:
    """A task's results, who computed them, and the seconds it took."""

    results: Results
    node: str
    compute_s: float


class Work:
    """Does tasks of one job. What it raises is the node's or the deployment's."""

    def __init__(self, reader: Reader, deployments: Deployments, terms: Terms) -> None:
        self._reader, self._deployments, self.terms = reader, deployments, terms

    async def do(self, task: Task, node: Node) -> Done:
        deployment = self._deployments.in_parts(self.terms.servable.ref)
        if deployment is None:
            result = await self._scan(task, node)
        else:
            result = await self._call(task, deployment)
        columns = dict(result.arrays)
        told = columns.pop(CHECKSUMS, None)
        results = Results(task, columns, told)
        return Done(results, result.node, result.compute_s)

    async def _scan(self, task: Task, node: Node) -> Result:
        terms = self.terms
        message = self._reader.scanning(task, terms.servable, terms.outputs)
        cost = _MESSAGE_BYTES + task.items * terms.item_bytes
        return await node.submit(message, cost, terms.deadline, terms.origin).reply

    async def _call(self, task: Task, deployment: Deployment) -> Result:
        terms = self.terms
        arrays = await asyncio.to_thread(self._reader.read, task, terms.servable)
        call = Call(terms.servable, arrays, task.items, terms.outputs)
        deadline = terms.deadline or asyncio.get_running_loop().time() + _THROUGH_PARTS_S
        return await self._deployments.call(deployment, call, deadline, terms.origin)
