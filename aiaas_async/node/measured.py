"""What a node has measured: how long its batches take, and how much it has done."""

from __future__ import annotations

from aiaas_async.compute.base import Answer
from aiaas_async.node.cores import Cores
from aiaas_async.node.gains import Gains
from aiaas_async.node.statistics import NodeStatistics
from aiaas_async.schedule.rates import Rates


class Measured:
    """Of the node called `name`, which shares `cores` with others."""

    def __init__(self, name: str, cores: Cores) -> None:
        self._name, self._cores = name, cores
        self._gains = Gains()
        self.rates = Rates()
        self.statistics = NodeStatistics()

    def threads_for(self, model: str, rows: int, now: float) -> int:
        """How many threads a batch may use that leaves at `now`; 0: the worker's own."""
        return self._cores.share(self._name, now) if self._gains.worth(model, rows) else 0

    def batch(self, model: str, rows: int, answer: Answer, *, lent: bool) -> None:
        """A batch of calls is answered, which used borrowed cores or not."""
        seconds = self._done(rows, answer)
        self.rates.record(model, rows, seconds)
        self._gains.record(model, rows, seconds, lent=lent)
        self.statistics.lent += lent

    def task(self, model: str, rows: int, answer: Answer) -> None:
        """A task of a batch job is answered."""
        self.rates.record(model, rows, self._done(rows, answer))

    def other(self, answer: Answer) -> None:
        """Something else is answered, of which nothing is reckoned beforehand."""
        self._done(1, answer)

    def _done(self, rows: int, answer: Answer) -> float:
        seconds = answer.compute_us / 1e6
        self.statistics.batches += 1
        self.statistics.rows += rows
        self.statistics.compute_s += seconds
        return seconds

    def forget(self, model: str) -> None:
        """Nothing is known of `model` any more."""
        self.rates.forget(model)
        self._gains.forget(model)
