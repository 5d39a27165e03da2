"""Loading: a node's worker gets what it needs, and lets go of what there is no room for."""

from __future__ import annotations

import msgspec

from aiaas_async.compute.jobs import ArtifactFiles, Load, Unload
from aiaas_async.node.residency import Residency
from aiaas_async.node.seat import WorkerSeat
from aiaas_async.node.statistics import NodeStatistics
from aiaas_async.node.work import Servable


class Loading:
    """Of the worker in `seat`, within the budget of `residency`; counts in `statistics`."""

    def __init__(
        self,
        seat: WorkerSeat,
        residency: Residency,
        statistics: NodeStatistics,
        timeout_s: float,
    ) -> None:
        self._seat, self._residency, self._statistics = seat, residency, statistics
        self._timeout_s = timeout_s
        self._loaded_as: dict[str, int] = {}
        self._loaded_from: dict[str, ArtifactFiles] = {}

    def incarnation(self, servable_id: str) -> int:
        """Which load of a version is, or was, the latest: its state in memory is as old."""
        return self._loaded_as.get(servable_id, 0)

    def has(self, servable: Servable) -> bool:
        """Whether `servable` is loaded, with its layout if it has one: not another of its name,
        which was deleted, and of which calls are left, or was made anew since."""
        loaded, asked = self._loaded_from.get(servable.id), servable.artifact
        if loaded is None or servable.id not in self._residency:
            return False
        if loaded is asked:
            return True
        if not _serves(loaded, asked):
            return False
        if loaded.laid_out == asked.laid_out:
            self._loaded_from[servable.id] = asked  # the next look is short
        return True

    async def ensure(self, servable: Servable) -> None:
        """Load `servable` unless it is loaded, the least recently used making room; in the place of
        another of its name, and once more when it has a layout meanwhile: that takes as long as to
        map it.

        Raises `MemoryBudgetError`, and what the worker's `Load` does."""
        if self.has(servable):
            return
        if servable.id in self._residency:
            await self._unload(servable.id)
        for victim in self._residency.room_for(servable.nbytes):
            await self._unload(victim)
            self._statistics.evictions += 1
        await self._seat.do(Load(servable.id, servable.artifact), self._timeout_s)
        self._residency.add(servable.id, servable.nbytes)
        self._loaded_from[servable.id] = servable.artifact
        self._statistics.loads += 1
        self._loaded_as[servable.id] = self._statistics.loads

    async def release(self, servable_id: str) -> None:
        """Unpin a version, unload it if it is loaded, and forget it."""
        self._residency.unpin(servable_id)
        if servable_id in self._residency:
            await self._unload(servable_id)
        self._loaded_as.pop(servable_id, None)
        self._loaded_from.pop(servable_id, None)

    async def _unload(self, model: str) -> None:
        self._residency.remove(model)
        await self._seat.do(Unload(model), self._timeout_s)


def _serves(loaded: ArtifactFiles, asked: ArtifactFiles) -> bool:
    """Whether what is loaded from one computes what is asked for, and as fast."""
    if asked.laid_out and not loaded.laid_out:
        return False
    return msgspec.structs.replace(loaded, laid_out=asked.laid_out) == asked
