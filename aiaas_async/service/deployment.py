"""One deployment: what was asked for, where it is, and what it says of itself."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec

from aiaas_async.errors import DeadlineError, OverloadedError, StoppingError
from aiaas_async.names import ModelRef
from aiaas_async.service.caching import ResponseCache
from aiaas_async.service.deploymentspec import DeploymentSpec
from aiaas_async.service.placement import Placement

logger = logging.getLogger(__name__)

_MAX_WAITING: Final = 1024  # calls, while a deployment moves


@dataclass(slots=True)
class Deployment:
    """`placement` is None until the first one is ready; `reason` says why the last try failed;
    `arrived` is there while the pieces move with no placement in between: calls wait for it."""

    id: str
    ref: ModelRef
    spec: DeploymentSpec
    placement: Placement | None = None
    reason: str | None = None
    arrived: asyncio.Event | None = None
    waiting: int = 0
    cache: ResponseCache | None = None

    @property
    def state(self) -> str:
        if self.placement is not None:
            return "ready"
        if self.arrived is not None:
            return "moving"
        return "failed" if self.reason else "loading"

    @property
    def waiting_here(self) -> int:
        """Calls that no node has yet: they wait for a pass, or for the move to end."""
        passes = None if self.placement is None else self.placement.passes
        return self.waiting + (0 if passes is None else passes.waiting())

    async def placed(self, deadline: float) -> Placement:
        """Where it is, once it is anywhere. Raises `DeadlineError`, `OverloadedError`, or
        `StoppingError` where it could not be placed."""
        if self.placement is None and self.arrived is not None:
            await self._wait(self.arrived, deadline)
        if self.placement is None:
            raise StoppingError(f"deployment {self.id} is not ready", retry_after=1.0)
        return self.placement

    async def _wait(self, arrived: asyncio.Event, deadline: float) -> None:
        if self.waiting >= _MAX_WAITING:
            raise OverloadedError(
                f"{_MAX_WAITING} calls wait already while deployment {self.id} moves",
                retry_after=1.0,
            )
        self.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await arrived.wait()
        except TimeoutError:
            raise DeadlineError(f"deployment {self.id} was moving all the time") from None
        finally:
            self.waiting -= 1


def render(deployment: Deployment) -> dict[str, Any]:
    """The JSON-like form of a deployment."""
    placement, cache = deployment.placement, deployment.cache
    passes = None if placement is None else placement.passes
    return {
        "id": deployment.id,
        "model": deployment.ref.name,
        "version": deployment.ref.version,
        "state": deployment.state,
        "reason": deployment.reason,
        "max_delay_ms": deployment.spec.max_delay_ms,
        "cache_mb": deployment.spec.cache_mb,
        "cache": None if cache is None else msgspec.to_builtins(cache.statistics()),
        "mailbox": None if passes is None else asdict(passes.statistics()),
        "plan": None if placement is None else placement.plan.to_data(),
    }


def tell(deployment: Deployment) -> None:
    """One line of the log: where it is now."""
    if deployment.placement is not None:
        nodes = ", ".join(node.id for node in deployment.placement.nodes)
        how = deployment.placement.plan.request
        way = how.split if how.mode == "distributed" else "whole"
        said = "deployment %s of %s is placed (%s) on %s"
        logger.info(said, deployment.id, deployment.ref, way, nodes)
