"""Seating: the one node that work of several steps stays with, and the form it serves there."""

from __future__ import annotations

from aiaas_async.node.node import Node
from aiaas_async.node.work import Servable
from aiaas_async.service.cluster import Cluster
from aiaas_async.service.deployments import Deployments

# The node, and what it serves the version as.
Seat = tuple[Node, Servable]


class Seating:
    def __init__(self, cluster: Cluster, deployments: Deployments) -> None:
        self._cluster, self._deployments = cluster, deployments

    async def seat(self, servable: Servable, key: str, deadline: float) -> Seat:
        """A node for `servable`: by its deployment's replicas if it is deployed, else by `key`.

        Raises `InvalidError` for a version whose deployment splits it, `StoppingError`; and
        `DeadlineError`, `OverloadedError` for one whose deployment moves.
        """
        deployment = self._deployments.ready(servable.ref)
        if deployment is None:
            return self._cluster.route(key), servable
        return (await deployment.placed(deadline)).replica()
