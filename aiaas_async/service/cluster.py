"""The cluster: the ring, and the node actors that live on it.

Routing is a plain function over in-memory state: hash the key, walk clockwise to the first node
whose load is below 1.25 times the mean (consistent hashing with bounded loads: Mirrokni, Thorup,
Zadimoghaddam 2018).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiaas_async.errors import NotFoundError, StoppingError
from aiaas_async.names import clip
from aiaas_async.node.node import Node
from aiaas_async.ring.hashring import Ring


class Cluster:
    """`make_node` builds a node for an id; `secret` keys the ring's hash."""

    def __init__(
        self,
        make_node: Callable[[str], Node],
        secret: bytes,
        *,
        load_factor: float,
        points_per_node: int,
    ) -> None:
        self._make_node = make_node
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
        self.nodes[node.id] = node
        self.ring = self.ring.with_node(node.id)

    def route(self, key: str) -> Node:
        """The node for `key` now. Raises `StoppingError` when there is none."""
        nodes = self.nodes
        if not nodes:
            raise StoppingError("no node is serving", retry_after=1.0)
        loads = {node_id: node.load for node_id, node in nodes.items()}
        return nodes[self.ring.bounded_owner(key, loads, self._load_factor)]

    def node(self, node_id: str) -> Node:
        """Raises `NotFoundError`."""
        try:
            return self.nodes[node_id]
        except KeyError:
            known = ", ".join(self.nodes)
            raise NotFoundError(f"no node is called {clip(node_id)}; nodes: {known}") from None

    def explain(self, key: str) -> dict[str, Any]:
        """Where `key` goes, and why."""
        return self.ring.explain(key, {node_id: node.load for node_id, node in self.nodes.items()})

    async def stop(self, grace_s: float) -> None:
        await asyncio.gather(*(node.stop(grace_s) for node in self.nodes.values()))
