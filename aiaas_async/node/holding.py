"""Holding: versions that a node keeps loaded whether or not they are called, until they are
released."""

from __future__ import annotations

from typing import Any

from aiaas_async.node.loading import Loading
from aiaas_async.node.residency import Residency
from aiaas_async.node.work import Hold, Release, Servable


class Holding:
    """Of one node. What is pinned outlives the node's worker: the next one is to load it."""

    def __init__(self, loading: Loading, residency: Residency) -> None:
        self._loading, self._residency = loading, residency
        self._pinned: dict[str, Servable] = {}

    def lost(self) -> list[Hold]:
        """The worker is gone, and everything it held: what the next one is to be asked for."""
        self._residency.clear()
        return [Hold(servable, pin=True, again=True) for servable in self._pinned.values()]

    async def hold(self, asked: Hold) -> dict[str, Any]:
        """Load a version, and pin it if that is `asked`. Returns facts of it; none if it was
        released while this waited. Raises what `Loading.ensure` does."""
        servable = asked.servable
        if asked.again and servable.id not in self._pinned:
            return {}
        await self._loading.ensure(servable)
        if asked.pin:
            self._residency.pin(servable.id)
            self._pinned[servable.id] = servable
        return {"nbytes": servable.nbytes, "pinned": asked.pin}

    async def release(self, asked: Release) -> None:
        """Unload a version, pinned or not."""
        self._pinned.pop(asked.servable_id, None)
        await self._loading.release(asked.servable_id)
