"""Deployments: versions placed by a plan, held ready on their nodes, replaced without a gap.

A new placement is loaded and warmed beside the old one; then the traffic switches, in one step of
the event loop, and the old one drains and is released. Where a node leaves and the others have no
room for both, the old one goes first, and calls wait meanwhile. What is deployed is written to a
file, and placed again at the next start.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from aiaas_async.actors.unbroken import to_its_end
from aiaas_async.deploy.plan import ModelFacts, NodePlan, Plan, PlanRequest, plan
from aiaas_async.errors import (
    AiaasError,
    ConflictError,
    InvalidError,
    MemoryBudgetError,
    NotFoundError,
)
from aiaas_async.names import ModelRef, clip
from aiaas_async.node.work import Call, Result
from aiaas_async.registry.records import VersionRecord
from aiaas_async.schedule.origin import A_CALL, CALLS, Origin
from aiaas_async.service.caching import ResponseCache
from aiaas_async.service.cluster import Cluster
from aiaas_async.service.deployment import Deployment, tell
from aiaas_async.service.deploymentfile import DeploymentFile, Stored
from aiaas_async.service.deploymentspec import DeploymentSpec, parse_spec
from aiaas_async.service.models import LAYOUT_PATIENCE_S, Models
from aiaas_async.service.placement import Placement, place_balanced
from aiaas_async.wire.sequences import is_stateful

logger = logging.getLogger(__name__)

_DEFECT: Final = "the server met a defect of its own, which its log tells"


class Deployments:
    """`file` remembers what is deployed."""

    def __init__(self, models: Models, cluster: Cluster, file: Path) -> None:
        self._models, self._cluster, self._file = models, cluster, DeploymentFile(file)
        self._by_ref: dict[ModelRef, Deployment] = {}
        self._changing = asyncio.Lock()
        self._draining: set[asyncio.Task[None]] = set()
        self.restored = asyncio.Event()
        models.users.append(self.uses)

    def ready(self, ref: ModelRef) -> Deployment | None:
        """The deployment that answers calls of `ref`, if there is one."""
        found = self._by_ref.get(ref)
        return found if found is not None and found.state in ("ready", "moving") else None

    def in_parts(self, ref: ModelRef) -> Deployment | None:
        """The deployment that answers for `ref`, if its parts do and no single node."""
        found = self.ready(ref)
        split = found is not None and found.placement is not None and found.placement.plan.split
        return found if split else None

    def uses(self, ref: ModelRef) -> str | None:
        """Why `ref` may not go: it is deployed."""
        found = self._by_ref.get(ref)
        return None if found is None else f"deployment {found.id}"

    def waiting(self) -> Counter[ModelRef]:
        """Calls that wait here, by version: for a pass, or for a deployment that moves."""
        return Counter({ref: found.waiting_here for ref, found in self._by_ref.items()})

    def all(self) -> list[Deployment]:
        return list(self._by_ref.values())

    def get(self, deployment_id: str) -> Deployment:
        """Raises `NotFoundError`."""
        for found in self._by_ref.values():
            if found.id == deployment_id:
                return found
        known = ", ".join(each.id for each in self._by_ref.values()) or "none"
        raise NotFoundError(f"no deployment has the id {clip(deployment_id)}; there are: {known}")

    async def preview(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The plan as it would be carried out now. Raises what `deploy` would."""
        spec = parse_spec(body)
        record = self._models.catalog.version(spec.model, spec.version)
        await self._models.servable(record)
        found, _ = await self._plan(record, spec.request)
        return found.to_data()

    async def deploy(self, body: Mapping[str, Any]) -> Deployment:
        """Place a version; one that is deployed already is placed anew beside itself first.

        Raises `InvalidError`, `NotFoundError`, `MemoryBudgetError` saying what would fit
        (`UnplaceableError` where that is nothing, whatever else is ended), `StorageError`, and
        leaves everything as it was when a piece cannot be loaded or the file not be written.
        """
        spec = parse_spec(body)
        record = self._models.catalog.version(spec.model, spec.version)
        await self._models.servable(record)
        async with self._changing:
            known = self._by_ref.get(record.ref)
            spec = msgspec.structs.replace(spec, version=record.ref.version)
            fresh = Deployment(known.id if known else secrets.token_hex(4), record.ref, spec)
            fresh.cache = await self._cache(record, spec)
            fresh.placement = await self._place(record, spec)
            await to_its_end(self._switch(known, fresh, fresh.placement))
            return fresh

    async def _switch(self, known: Deployment | None, fresh: Deployment, placed: Placement) -> None:
        """Written down first; from then on memory and file cannot disagree."""
        try:
            await self._save({**self._by_ref, fresh.ref: fresh})
        except BaseException:
            await placed.release()
            raise
        self._by_ref[fresh.ref] = fresh
        tell(fresh)
        self._retire(known.placement if known else None)

    async def delete(self, deployment_id: str) -> None:
        """End a deployment; the version answers as any other again. Raises `NotFoundError`, and
        `StorageError`: then it goes on."""
        async with self._changing:
            await to_its_end(self._end(self.get(deployment_id)))

    async def _end(self, found: Deployment) -> None:
        await self._save({ref: each for ref, each in self._by_ref.items() if each is not found})
        del self._by_ref[found.ref]
        logger.info("deployment %s of %s has ended", found.id, found.ref)
        self._retire(found.placement)

    async def recall(self) -> None:
        """Know again what was deployed when the server stopped, before anything else is: a change
        writes down all that is known. Raises `StorageError`."""
        for each in await asyncio.to_thread(self._file.read):
            self._by_ref[each.ref] = Deployment(each.id, each.ref, each.spec)

    async def restore(self) -> None:
        """Place what was recalled; what was ended or deployed anew meanwhile is let be."""
        for recalled in self.all():
            async with self._changing:
                if self._by_ref.get(recalled.ref) is recalled:
                    await self._replace(recalled)
        self.restored.set()

    async def revive(self) -> None:
        """Try again what had failed: there is more room now."""
        async with self._changing:
            for deployment in self.all():
                if deployment.state == "failed":
                    await self._replace(deployment)

    async def vacate(self, node_id: str) -> dict[str, str]:
        """Move whatever lies on a node that leaves. What fits nowhere else has failed: by id, the
        reasons."""
        async with self._changing:
            for deployment in self.all():
                placed = deployment.placement
                if placed is not None and any(node.id == node_id for node in placed.nodes):
                    await self._replace(deployment)
            return {each.id: each.reason for each in self.all() if each.reason is not None}

    async def check_spared(self, node_id: str) -> None:
        """Raise `ConflictError` where a deployment that lies on the node could not be placed on
        the others: they are planned one after the other, as `vacate` would move them."""
        async with self._changing:
            members = [name for name in self._cluster.ring.members if name != node_id]
            free = {name: self._cluster.nodes[name].free_bytes for name in members}
            for deployment in self.all():
                held = () if deployment.placement is None else deployment.placement.plan.nodes
                if any(each.node == node_id for each in held):
                    await self._plan_without(node_id, deployment, held, free)

    async def _plan_without(
        self, node_id: str, deployment: Deployment, held: Sequence[NodePlan], free: dict[str, int]
    ) -> None:
        """Take from `free` what a deployment would take there instead of what it `held`."""
        for each in held:
            if each.node in free:
                free[each.node] += each.nbytes
        try:
            record = self._models.catalog.version(*deployment.ref)
            found, _ = await self._plan(record, deployment.spec.request, free)
        except AiaasError as error:
            raise ConflictError(
                f"node {node_id} is needed by deployment {deployment.id} of {deployment.ref}, "
                f"which could not be placed without it: {error.message}. Deploy it in another way "
                "or end it, let another node join first, or give force",
                {"deployment": deployment.id, "node": node_id},
            ) from error
        for each in found.nodes:
            free[each.node] -= each.nbytes

    async def _replace(self, deployment: Deployment) -> None:
        """Place a deployment anew; a failure becomes its state."""
        old = deployment.placement
        try:
            record = self._models.catalog.version(*deployment.ref)
            await self._models.servable(record)
            if deployment.cache is None:
                deployment.cache = await self._cache(record, deployment.spec)
            deployment.placement = await self._place_again(record, deployment)
            deployment.reason = None
            tell(deployment)
        except AiaasError as error:
            deployment.placement, deployment.reason = None, error.message
            said = "deployment %s of %s failed: %s"
            logger.warning(said, deployment.id, deployment.ref, error.message)
        except Exception:  # of this one alone: others, and whoever waits for `restored`, go on
            deployment.placement, deployment.reason = None, _DEFECT
            logger.exception("deployment %s met a defect", deployment.id)
        finally:
            if deployment.arrived is not None:
                deployment.arrived.set()
                deployment.arrived = None
        self._retire(old)

    async def _place_again(self, record: VersionRecord, deployment: Deployment) -> Placement:
        """A new placement beside the old one, or instead of it where both have no room."""
        old = deployment.placement
        try:
            return await self._place(record, deployment.spec)
        except MemoryBudgetError:
            if old is None:
                raise
        deployment.placement, deployment.arrived = None, asyncio.Event()
        await old.drain()
        return await self._place(record, deployment.spec)

    async def _plan(
        self, record: VersionRecord, request: PlanRequest, free: Mapping[str, int] | None = None
    ) -> tuple[Plan, ModelFacts]:
        """On the ring's members with the bytes they have free, or on those of `free`."""
        facts = ModelFacts(record.nbytes, await self._models.network(record))
        nodes = self._cluster.nodes
        if free is None:
            free = {name: nodes[name].free_bytes for name in self._cluster.ring.members}
        budgets = {name: nodes[name].budget_bytes for name in free}
        return await asyncio.to_thread(plan, request, facts, free, budgets), facts

    async def _place(self, record: VersionRecord, spec: DeploymentSpec) -> Placement:
        found, facts = await self._plan(record, spec.request)
        if not found.split:
            await self._models.lay_out(record, LAYOUT_PATIENCE_S)
        whole = replace(
            self._models.form(record.metadata, record.files, record.nbytes),
            max_batch_size=found.request.max_batch_size,
            max_delay_s=spec.max_delay_ms / 1000,
        )
        return await place_balanced(found, facts, whole, self._cluster.nodes)

    async def _cache(self, record: VersionRecord, spec: DeploymentSpec) -> ResponseCache | None:
        """The cache that is asked for. Raises `InvalidError` unless equal inputs of the version
        are known to give equal answers."""
        if not spec.cache_mb:
            return None
        found = await self._models.inspect(self._models.artifact_of(record))
        if not found.deterministic or is_stateful(record.metadata.inputs):
            raise InvalidError(
                f"answers of {record.ref} cannot be cached: runtime {record.metadata.runtime} does "
                "not say that they depend on the inputs alone (a class of your own says so with "
                "`deterministic = True`); deploy it without cache_mb"
            )
        counts = self._models.statistics.of(record.ref)
        return ResponseCache(record.digest or "", spec.cache_mb << 20, counts)

    async def call(
        self, deployment: Deployment, call: Call, deadline: float, origin: Origin = A_CALL
    ) -> Result:
        """The answer to `call`, whose arrays fit the version's signature; of a call that a user
        waits for perhaps remembered."""

        async def compute(call: Call, deadline: float) -> Result:
            placement = await deployment.placed(deadline)
            return await placement.call(call, deadline, origin)

        if deployment.cache is None or origin.flow != CALLS:
            return await compute(call, deadline)
        return await deployment.cache.call(call, deadline, compute)

    def _retire(self, placement: Placement | None) -> None:
        if placement is not None:
            task = asyncio.create_task(placement.drain())
            self._draining.add(task)
            task.add_done_callback(self._on_drained)

    def _on_drained(self, task: asyncio.Task[None]) -> None:
        self._draining.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("what was replaced could not be freed", exc_info=error)

    async def _save(self, deployed: Mapping[ModelRef, Deployment]) -> None:
        stored = [Stored(each.id, each.spec) for each in deployed.values()]
        await asyncio.to_thread(self._file.write, stored)

    async def settled(self) -> None:
        """Wait for what drains."""
        if self._draining:
            await asyncio.wait(self._draining)

    async def stop(self, grace_s: float) -> None:
        """Let a change under way and what drains end within `grace_s` seconds; then no pass is
        begun any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                async with self._changing:
                    await self.settled()
        for found in self.all():
            if found.placement is not None and found.placement.passes is not None:
                await found.placement.passes.stop()
