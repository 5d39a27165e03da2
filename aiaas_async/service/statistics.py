"""What each version was asked, by whichever surface: one set of counters that all of them show.

A call that succeeds costs one `succeeded`: a microsecond of additions, without a lock (the event
loop is the only writer), a text or a look-up by label.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from aiaas_async.errors import (
    AiaasError,
    CapacityError,
    DeadlineError,
    DivergedError,
    QuarantinedError,
    WorkerError,
)
from aiaas_async.names import ModelRef
from aiaas_async.service.histogram import Histogram

# The reference server's words, and what they stand for here: the nearest class up the tree.
REASONS: Final = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
_REASON: Final[dict[type[BaseException], str]] = {
    CapacityError: "REJECTED",
    DeadlineError: "REJECTED",
    QuarantinedError: "REJECTED",
    asyncio.CancelledError: "CANCELED",
    GeneratorExit: "CANCELED",  # of an answer in parts
    WorkerError: "BACKEND",
    DivergedError: "BACKEND",
    AiaasError: "OTHER",
    BaseException: "OTHER",
}

# Milliseconds. The reference server's own four are among them: 100, 500, 2,000, 5,000.
LATENCIES_MS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3)

# Of the calls that quantiles are taken from: 20 KiB for each version that is called.
WINDOW: Final = 1024
_ROW: Final = struct.Struct("=5f")
_KINDS: Final = ("request", "queue", "compute_input", "compute_infer", "compute_output")


@dataclass(slots=True)
class Duration:
    """How often, and how long in total."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns


@dataclass(slots=True, eq=False)
class VersionStatistics:
    """Of one version. `successes` are whole answers, `streams` those in parts. `executions` adds up
    each call's share of its batch; `batches` has by batch size the executions and their
    nanoseconds. `latencies` are in milliseconds."""

    inferences: int = 0
    executions: float = 0.0
    last_ms: int = 0
    success_ns: int = 0
    queue_ns: int = 0
    compute_input_ns: int = 0
    compute_infer_ns: int = 0
    compute_output_ns: int = 0
    streams: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    reasons: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    cache_hit: Duration = field(default_factory=Duration)
    cache_miss: Duration = field(default_factory=Duration)
    batches: dict[int, list[float]] = field(default_factory=dict)
    latencies: Histogram = field(default_factory=lambda: Histogram(LATENCIES_MS))
    successes: int = 0
    _quantiles: tuple[object, dict[str, list[float]]] | None = field(default=None, repr=False)
    _window: bytearray = field(default_factory=lambda: bytearray(WINDOW * _ROW.size), repr=False)

    def succeeded(
        self, rows: int, batch_size: int, total: int, queue: int, infer: int, output: int
    ) -> None:
        """Count a call of `rows` items that was computed in a batch of `batch_size`; of 0, if it
        was answered from a cache, which is a success and no inference.

        Of its `total` nanoseconds it waited `queue` for a worker, was `infer` in the kernel, and
        took `output` after the node's answer; what is left went into reading the inputs and the
        way to the worker and back."""
        before = max(0, total - queue - infer - output)
        place = self.successes % WINDOW
        self.successes += 1
        self.last_ms = time.time_ns() // 1_000_000
        self.success_ns += total
        self.queue_ns += queue
        self.compute_input_ns += before
        self.compute_infer_ns += infer
        self.compute_output_ns += output
        self.latencies.add(total / 1e6)
        _ROW.pack_into(self._window, place * _ROW.size, total, queue, before, infer, output)
        if not batch_size:
            return
        self.inferences += rows
        share = rows / batch_size
        self.executions += share
        batch = self.batches.get(batch_size)
        if batch is None:
            batch = self.batches[batch_size] = [0.0, 0.0]
        batch[0] += share
        batch[1] += share * infer

    def streamed(self, rows: int, first: int, total: int) -> None:
        """Count an answer in parts: nanoseconds to its `first` and to its end. The time of its
        parts in the queue and in the model is not known."""
        self.streams.add(total)
        self.inferences += rows
        self.executions += 1
        self.last_ms = time.time_ns() // 1_000_000
        self.latencies.add(first / 1e6)

    @property
    def success(self) -> Duration:
        """Of whole answers and of those in parts."""
        return Duration(self.successes + self.streams.count, self.success_ns + self.streams.ns)

    def failed(self, error: BaseException, ns: int) -> None:
        self.fail.add(ns)
        self.reasons[reason_of(error)] += 1

    def quantiles(self, points: Sequence[float]) -> dict[str, list[float]]:
        """Of the last `WINDOW` calls that succeeded, in microseconds, at each of `points`: by
        request, queue, compute_input, compute_infer and compute_output. NaN without any call."""
        asked = (self.successes, tuple(points))
        if self._quantiles is None or self._quantiles[0] != asked:
            # Of a version that nobody called meanwhile a look needs no sorting.
            self._quantiles = (asked, self._found(points))
        return self._quantiles[1]

    def _found(self, points: Sequence[float]) -> dict[str, list[float]]:
        count = min(self.successes, WINDOW)
        if not count:
            return {kind: [float("nan")] * len(points) for kind in _KINDS}
        rows = np.frombuffer(self._window, np.float32).reshape(WINDOW, len(_KINDS))[:count]
        ordered = np.ascontiguousarray(rows.T)
        ordered.sort(axis=1)  # in vector instructions: a third of the time of `np.quantile`
        at = np.multiply(points, count - 1)
        below = at.astype(np.intp)
        low, high = ordered[:, below], ordered[:, np.minimum(below + 1, count - 1)]
        found = np.round((low + (high - low) * (at - below)) / 1000, 3)  # to the nanosecond
        return dict(zip(_KINDS, found.tolist(), strict=True))


def reason_of(error: BaseException) -> str:
    """One of `REASONS`."""
    return next(_REASON[cls] for cls in type(error).__mro__ if cls in _REASON)


class CallStatistics:
    """The counters of every version that was called."""

    def __init__(self) -> None:
        self._by_ref: dict[ModelRef, VersionStatistics] = {}

    def of(self, ref: ModelRef) -> VersionStatistics:
        """The counters to write to."""
        found = self._by_ref.get(ref)
        if found is None:
            found = self._by_ref[ref] = VersionStatistics()
        return found

    def seen(self, ref: ModelRef) -> VersionStatistics:
        """The counters to read; those of a version that was never called are zero."""
        return self._by_ref.get(ref) or VersionStatistics()

    def items(self) -> Iterator[tuple[ModelRef, VersionStatistics]]:
        yield from self._by_ref.items()

    def forget(self, ref: ModelRef) -> None:
        """The version is deleted: one that is committed anew under its name is another."""
        self._by_ref.pop(ref, None)
