"""The cluster: the ring, and the node actors that live on it.

Routing is a plain function over in-memory state: hash the key, walk clockwise to the first node
whose load is below 1.25 times the mean (consistent hashing with bounded loads: Mirrokni, Thorup,
Zadimoghaddam 2018).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiaas_async.errors import ConflictError, NotFoundError, StoppingError, WorkerDiedError
from aiaas_async.names import clip
from aiaas_async.node.node import Node
from aiaas_async.node.quarantine import Quarantine
from aiaas_async.node.work import Message, Result
from aiaas_async.ring.hashring import Ring
from aiaas_async.schedule.origin import A_CALL, Origin
from aiaas_async.service.standing import Standings

JOIN_TIMEOUT_S: Final = 30.0


class Cluster:
    """`make_node` builds a node for an id, all of which share `quarantine`; `secret` keys the
    ring's hash.

    A node that leaves is off the ring at once, and stays in `nodes` until its work is done.
    """

    def __init__(
        self,
        make_node: Callable[[str], Node],
        secret: bytes,
        quarantine: Quarantine,
        *,
        load_factor: float,
        points_per_node: int,
    ) -> None:
        self._make_node = make_node
        self.quarantine = quarantine
        self._load_factor = load_factor
        self.nodes: dict[str, Node] = {}
        self.ring = Ring((), secret, points_per_member=points_per_node)

    async def start(self, ids: list[str]) -> None:
        """Bring up the first nodes, all at once."""
        nodes = [self._make_node(node_id) for node_id in ids]
        await asyncio.gather(*(node.start() for node in nodes))
        for node in nodes:
            self._admit(node)

    def _admit(self, node: Node) -> None:
        self.ring = self.ring.with_node(node.id)
        self.nodes[node.id] = node

    async def join(self, node_id: str) -> Node:
        """Bring up one more node; it takes work as soon as its worker is ready.

        Raises `ConflictError` when there is a node of that name, also one that leaves, and
        `WorkerDiedError` when no worker can be started for it.
        """
        if node_id in self.nodes:
            raise ConflictError(f"node {clip(node_id)} is there already")
        node = self._make_node(node_id)
        try:
            async with asyncio.timeout(JOIN_TIMEOUT_S):
                await node.start()
        except TimeoutError:
            await node.stop(0.0)
            raise WorkerDiedError(
                f"node {clip(node_id)} got no worker within {JOIN_TIMEOUT_S:g} s: the machine may "
                "be out of processes or memory"
            ) from None
        self._admit(node)
        return node

    def retire(self, node_id: str) -> Node:
        """Take a node off the ring: no new work goes to it, what it has it finishes. Raises what
        `check_leaver` does."""
        node = self.check_leaver(node_id)
        self.ring = self.ring.without_node(node_id)
        return node

    def check_leaver(self, node_id: str) -> Node:
        """The node that may leave. Raises `NotFoundError`, and `ConflictError` for the last node
        or one that leaves already."""
        node = self.node(node_id)
        if node_id not in self.ring:
            raise ConflictError(f"node {clip(node_id)} is leaving already")
        if len(self.ring) == 1:
            raise ConflictError(
                f"node {clip(node_id)} is the last one: without it nothing could be served; let "
                "another join first"
            )
        return node

    async def remove(self, node: Node, grace_s: float) -> None:
        """End a retired node, once its work is done or `grace_s` is over."""
        await node.stop(grace_s)
        self.nodes.pop(node.id, None)

    @property
    def members(self) -> list[str]:
        """The ring's members, the longest-serving first."""
        return [node_id for node_id in self.nodes if node_id in self.ring]

    @property
    def loads(self) -> dict[str, int]:
        """Requests that wait or are under way, by the ring's members."""
        return {node_id: self.nodes[node_id].load for node_id in self.ring.members}

    def route(self, key: str) -> Node:
        """The node for `key` now. Raises `StoppingError` when there is none."""
        ring = self.ring
        if not ring.members:
            raise StoppingError("no node is serving", retry_after=1.0)
        owner = self.nodes[ring.clockwise(key)[0]]
        if not owner.load:  # it has room, whatever the others carry
            return owner
        return self.nodes[ring.bounded_owner(key, self.loads, self._load_factor)]

    async def ask(
        self,
        key: str,
        message: Message,
        cost: int,
        deadline: float | None,
        origin: Origin = A_CALL,
    ) -> Result:
        """The answer of the node for `key`. What a stopping node left undone another does."""
        node = self.route(key)
        try:
            return await node.submit(message, cost, deadline, origin).reply
        except StoppingError:
            if node.id in self.ring or not len(self.ring):
                raise
        return await self.route(key).submit(message, cost, deadline, origin).reply

    def node(self, node_id: str) -> Node:
        """Raises `NotFoundError`."""
        try:
            return self.nodes[node_id]
        except KeyError:
            known = ", ".join(self.nodes)
            raise NotFoundError(f"no node is called {clip(node_id)}; nodes: {known}") from None

    def explain(self, key: str) -> dict[str, Any]:
        """Where `key` goes, and why."""
        return self.ring.explain(key, self.loads, self._load_factor)

    def statuses(self) -> list[dict[str, Any]]:
        """JSON-like facts of every node."""
        return [self.status(node_id) for node_id in self.nodes]

    def status(self, node_id: str) -> dict[str, Any]:
        """JSON-like facts of one node. Raises `NotFoundError`."""
        facts = self.node(node_id).status() | {"quarantined": self.standings().all_quarantined()}
        return facts if node_id in self.ring else {**facts, "state": "leaving"}

    def standings(self) -> Standings:
        """What versions are to their callers now."""
        return Standings(self.quarantine)

    async def stop(self, grace_s: float) -> None:
        await asyncio.gather(*(node.stop(grace_s) for node in self.nodes.values()))
