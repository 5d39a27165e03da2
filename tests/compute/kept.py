"""A source of worker processes that a test can find again."""

from __future__ import annotations

from aiaas_async.compute.pool import WorkerForks
from aiaas_async.compute.process import WorkerProcess


class KeptForks(WorkerForks):
    """Knows the workers it made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[WorkerProcess] = []

    async def spawn(self, nice: int = 0) -> WorkerProcess:
        self.made.append(await super().spawn(nice))
        return self.made[-1]
