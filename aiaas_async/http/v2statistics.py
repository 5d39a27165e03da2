"""What each version was asked over the Open Inference Protocol, and the form it is told in."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from aiaas_async.node.node import Node
from aiaas_async.registry.records import VersionRecord
from aiaas_async.service.calls import CallAnswer


@dataclass(slots=True)
class Duration:
    """How often, and how long in total."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns


@dataclass(slots=True)
class Counter:
    """What one version was asked over this protocol; `executions` adds up each request's share of
    its batch."""

    inferences: int = 0
    executions: float = 0.0
    last_ms: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, tuple[float, float]] = field(default_factory=dict)

    def failed(self, ns: int) -> None:
        self.fail.add(ns)

    def streamed(self, rows: int, ns: int) -> None:
        """An answer in parts is not timed by its parts."""
        self.inferences += rows
        self.executions += 1
        self.last_ms = time.time_ns() // 1_000_000
        self.success.add(ns)

    def succeeded(self, answer: CallAnswer, rows: int, started: int, written: int) -> None:
        """`started` and `written` are when the request came and when its outputs were known."""
        now = time.perf_counter_ns()
        queue, compute = answer.queue_us * 1000, answer.compute_us * 1000
        share = rows / max(answer.batch_size, 1)
        self.inferences += rows
        self.executions += share
        self.last_ms = time.time_ns() // 1_000_000
        self.success.add(now - started)
        self.queue.add(queue)
        self.compute_input.add(max(0, written - started - queue - compute))
        self.compute_infer.add(compute)
        self.compute_output.add(now - written)
        count, spent = self.batches.get(answer.batch_size, (0.0, 0.0))
        self.batches[answer.batch_size] = (count + share, spent + share * compute)


def render(counter: Counter, record: VersionRecord, nodes: Iterable[Node]) -> dict[str, Any]:
    """The statistics of one version; every field that the load generators read is there."""
    return {
        "name": record.ref.name,
        "version": record.ref.version,
        "last_inference": counter.last_ms,
        "inference_count": counter.inferences,
        "execution_count": round(counter.executions),
        "inference_stats": {
            **{kind: _shown(getattr(counter, kind)) for kind in _KINDS},
            "cache_hit": _shown(Duration()),
            "cache_miss": _shown(Duration()),
        },
        "batch_stats": [
            _batch(size, round(count), round(ns))
            for size, (count, ns) in sorted(counter.batches.items())
        ],
        "response_stats": {},
        "memory_usage": _memory(record, nodes),
    }


_KINDS: Final = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


def _shown(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}


def _batch(size: int, count: int, ns: int) -> dict[str, Any]:
    """Only the computing is timed by batch."""
    nothing = {"count": count, "ns": 0}
    return {
        "batch_size": size,
        "compute_input": nothing,
        "compute_infer": {"count": count, "ns": ns},
        "compute_output": nothing,
    }


def _memory(record: VersionRecord, nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """The weights, on each node that holds them."""
    statuses = [node.status() for node in nodes]
    return [
        {"type": "CPU", "id": number, "byte_size": record.nbytes}
        for number, status in enumerate(statuses)
        if str(record.ref) in status["loaded"]
    ]
