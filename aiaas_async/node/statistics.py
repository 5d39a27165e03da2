"""What a node counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class NodeStatistics:
    """Counts since start; `lent` are batches that used cores of idle nodes, `compute_s` is the
    worker's busy time in seconds."""

    batches: int = 0
    lent: int = 0
    rows: int = 0
    failures: int = 0
    deaths: int = 0
    loads: int = 0
    evictions: int = 0
    compute_s: float = 0.0
