"""Membership: nodes join and leave while calls and jobs run, and their data moves with the ring.

A joining node serves once its worker is ready; a leaving one is off the ring first, so nothing
new comes, then hands over its data and finishes what waits. One change at a time, and each is
remembered over a restart (`roster.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aiaas_async.actors.unbroken import Unbroken
from aiaas_async.errors import AiaasError, OverloadedError
from aiaas_async.names import check_name
from aiaas_async.ring.hashring import Ring
from aiaas_async.service.cluster import Cluster
from aiaas_async.service.datasets import Datasets
from aiaas_async.service.deployments import Deployments
from aiaas_async.service.roster import free_name

logger = logging.getLogger(__name__)


MAX_NODES: Final = 256
_SAMPLES: Final = 4096  # keys that stand for all when shares of the key space are estimated


class Membership:
    """`remember` writes down who is there now; `grace_s` is what a leaving node has to finish what
    waits at it."""

    def __init__(
        self,
        cluster: Cluster,
        datasets: Datasets,
        deployments: Deployments,
        remember: Callable[[Sequence[str]], None],
        grace_s: float,
    ) -> None:
        self._cluster, self._datasets, self._grace_s = cluster, datasets, grace_s
        self._deployments, self._remember = deployments, remember
        self._changing = asyncio.Lock()
        self._changes = Unbroken()
        self._shares: tuple[Ring | None, dict[str, float]] = (None, {})

    async def join(self, node_id: str | None = None) -> dict[str, Any]:
        """Add a node (the first free "node-N" by default); its status, and what moved to it.

        Raises `InvalidNameError`, `ConflictError`, `OverloadedError` beyond 256 nodes.
        """
        if node_id is not None:
            check_name(node_id, "node id")
        return await self._changes.do(self._join(node_id))

    async def _join(self, node_id: str | None) -> dict[str, Any]:
        async with self._changing:
            if len(self._cluster.nodes) >= MAX_NODES:
                raise OverloadedError(f"there are {MAX_NODES} nodes; no more can join")
            node = await self._cluster.join(node_id or free_name([*self._cluster.nodes]))
            remembered = await self._remembered()
            moved = await self._follow()
            await self._deployments.revive()
            logger.info("node %s joined; %d items moved", node.id, moved["copies"])
            return {**self._cluster.status(node.id), "moved": moved, **remembered}

    async def leave(self, node_id: str, *, force: bool = False) -> dict[str, Any]:
        """Drain and remove a node; what moved away from it.

        Raises `NotFoundError`, and `ConflictError` for the last node, or for one that a deployment
        cannot do without, unless there is `force`: then that deployment fails.
        """
        return await self._changes.do(self._leave(node_id, force=force))

    async def _leave(self, node_id: str, *, force: bool) -> dict[str, Any]:
        async with self._changing:
            self._cluster.check_leaver(node_id)
            if not force:
                await self._deployments.check_spared(node_id)
            node = self._cluster.retire(node_id)
            waiting = node.load
            remembered = await self._remembered()
            failed = await self._deployments.vacate(node_id)
            moved = await self._follow()
            await self._cluster.remove(node, self._grace_s)
            logger.info("node %s left; %d items moved", node_id, moved["copies"])
            return {
                "id": node_id,
                "state": "left",
                "finished": waiting,
                "moved": moved,
                "failed": failed,
                **remembered,
            }

    async def _remembered(self) -> dict[str, Any]:
        """Write down who is there. The change stands also where that cannot be, and says so."""
        try:
            await asyncio.to_thread(self._remember, self._cluster.members)
        except AiaasError as error:
            logger.error("who is there could not be remembered: %s", error.message)  # noqa: TRY400
            return {"forgotten_at_restart": error.message}
        return {}

    async def _follow(self) -> dict[str, Any]:
        """Let the data follow the ring. What could not move stays readable where it is, and
        follows at the next change or start."""
        try:
            return {"copies": await self._datasets.follow(self._cluster.ring)}
        except AiaasError as error:
            logger.error("data could not follow the ring: %s", error.message)  # noqa: TRY400
            return {"copies": error.details.get("copies", 0), "error": error.message}

    async def explain(self, key: str) -> dict[str, Any]:
        """Where `key` goes and why; and, as a dry run, what each node's leaving would move. Data
        sets that are `damaged` would not, and are not counted."""
        held, damaged = await self._datasets.held()
        would_move = await self._would_move(held)
        return {**self._cluster.explain(key), "would_move": would_move, "damaged": damaged}

    async def _would_move(self, held: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
        """By node: its share of the key space, its rows and bytes of data, its waiting work."""
        shares, nothing = await self._key_shares(), {"rows": 0, "bytes": 0}
        return {
            node_id: {
                "keys": shares.get(node_id, 0.0),
                "requests": load,
                **held.get(node_id, nothing),
            }
            for node_id, load in self._cluster.loads.items()
        }

    async def _key_shares(self) -> dict[str, float]:
        """Each member's share of the key space, worked out once for a ring, off the loop."""
        ring = self._cluster.ring
        if self._shares[0] is not ring:
            self._shares = ring, await asyncio.to_thread(_shares_of, ring)
        return self._shares[1]

    async def stop(self) -> None:
        """Wait for a change under way."""
        await self._changes.settle()


def _shares_of(ring: Ring) -> dict[str, float]:
    owners = Counter(ring.owner(f"sample {number}") for number in range(_SAMPLES))
    return {name: owners[name] / _SAMPLES for name in ring.members}
