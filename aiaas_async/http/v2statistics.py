"""The form in which the Open Inference Protocol tells what each version was asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aiaas_async.node.node import Node
from aiaas_async.registry.records import VersionRecord
from aiaas_async.service.statistics import Duration, VersionStatistics

Loaded = Sequence[frozenset[str]]


def loaded_by(nodes: Iterable[Node]) -> Loaded:
    """What each node holds: asked once for all versions that a reply shows."""
    return [frozenset(node.status()["loaded"]) for node in nodes]


def render(statistics: VersionStatistics, record: VersionRecord, loaded: Loaded) -> dict[str, Any]:
    """The statistics of one version; every field that the load generators read is there."""
    return {
        "name": record.ref.name,
        "version": record.ref.version,
        "last_inference": statistics.last_ms,
        "inference_count": statistics.inferences,
        "execution_count": round(statistics.executions),
        "inference_stats": _durations(statistics),
        "batch_stats": [
            _batch(size, round(count), round(ns))
            for size, (count, ns) in sorted(statistics.batches.items())
        ],
        "response_stats": {},
        "memory_usage": _memory(record, loaded),
    }


def _durations(statistics: VersionStatistics) -> dict[str, dict[str, int]]:
    count = statistics.successes
    return {
        "success": _shown(statistics.success),
        "fail": _shown(statistics.fail),
        "queue": {"count": count, "ns": statistics.queue_ns},
        "compute_input": {"count": count, "ns": statistics.compute_input_ns},
        "compute_infer": {"count": count, "ns": statistics.compute_infer_ns},
        "compute_output": {"count": count, "ns": statistics.compute_output_ns},
        "cache_hit": _shown(statistics.cache_hit),
        "cache_miss": _shown(statistics.cache_miss),
    }


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


def _memory(record: VersionRecord, loaded: Loaded) -> list[dict[str, Any]]:
    """The weights, on each node that holds them."""
    return [
        {"type": "CPU", "id": number, "byte_size": record.nbytes}
        for number, versions in enumerate(loaded)
        if str(record.ref) in versions
    ]
