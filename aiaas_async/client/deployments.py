"""Deployments, batch inference, and the nodes they run on."""

from __future__ import annotations

from typing import Any, Final

from aiaas_async.client.address import path
from aiaas_async.client.request import Request
from aiaas_async.client.surface import Surface, field_of, object_of

# Placing loads and warms a whole version before it answers.
PLACE_TIMEOUT_S: Final = 600.0


class DeploymentMethods(Surface):
    async def deploy(self, model: str, **options: Any) -> dict[str, Any]:
        """Place a version: `version`, `mode` (centralized, distributed), `split` (pipeline,
        tensor), `nodes`, `replicas`, `max_batch_size`, `max_delay_ms`, `cache_mb`.

        With `dry_run=True` only the plan is made. Raises `MemoryBudgetError` saying what would fit.
        """
        body = object_of({"model": model}, options)
        found: dict[str, Any] = await self._post("/deployments", body, timeout=PLACE_TIMEOUT_S)
        return found

    async def deployments(self) -> list[dict[str, Any]]:
        """Every deployment with its plan."""
        found: list[dict[str, Any]] = field_of(await self._get("/deployments"), "deployments")
        return found

    async def deployment(self, deployment_id: str) -> dict[str, Any]:
        """One deployment with its plan."""
        found: dict[str, Any] = await self._get(path("deployments", deployment_id))
        return found

    async def undeploy(self, deployment_id: str) -> None:
        """End a deployment; its version answers as any other again."""
        await self._delete(path("deployments", deployment_id))

    async def batch(self, model: str, dataset: str, **options: Any) -> dict[str, Any]:
        """Run a version over a data set and return the job; its results become a data set.

        Options: `version`, `output_dataset`, `inputs` (column → input), `outputs`, `assignment`,
        `task_items`, `priority`, `timeout_s`.
        """
        body = object_of({"model": model, "dataset": dataset}, options)
        job: dict[str, Any] = await self._post("/batch", body, repeatable=False)
        return job

    async def join_node(self, node_id: str | None = None) -> dict[str, Any]:
        """Add a node to the ring; its status, and what data moved to it."""
        body = {} if node_id is None else {"id": node_id}
        found: dict[str, Any] = await self._post(
            "/nodes", body, timeout=PLACE_TIMEOUT_S, repeatable=False
        )
        return found

    async def remove_node(self, node_id: str, *, force: bool = False) -> dict[str, Any]:
        """Drain a node and take it off the ring; what moved away from it.

        Raises `ConflictError` where a deployment could not be placed without it; with `force` that
        deployment fails instead."""
        query = {"force": "true"} if force else {}
        answer = await self._transport.send(
            Request("DELETE", path("nodes", node_id), query=query, timeout_s=PLACE_TIMEOUT_S)
        )
        found: dict[str, Any] = answer.value()
        return found
