"""Seating: the one node that work of several steps stays with, and the form it serves there."""

from __future__ import annotations

from aiaas_async.node.node import Node
from aiaas_async.node.work import Servable
from aiaas_async.service.cluster import Cluster
from aiaas_async.service.deployments import Deployments


class Seating:
    def __init__(self, cluster: Cluster, deployments: Deployments) -> None:
        self._cluster, self._deployments = cluster, deployments

    def seat(self, servable: Servable, key: str) -> tuple[Node, Servable]:
        """A node for `servable`: by its deployment's replicas if it has some, else by `key`.

        Raises `InvalidError` for a version whose deployment splits it, `StoppingError`.
        """
        deployment = self._deployments.ready(servable.ref)
        if deployment is not None and deployment.placement is not None:
            return deployment.placement.replica()
        return self._cluster.route(key), servable
