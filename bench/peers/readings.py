"""What was measured: medians over rounds, kept as JSON so that the report can be made again."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench.serving import Reading


@dataclass
class Measured:
    """`runs[work][setting]`: a reading a round; `memory` in MB; `said` why one is missing."""

    machine: str
    runs: dict[str, dict[str, list[Reading]]] = field(default_factory=dict)
    kernel: list[float] = field(default_factory=list)  # rows a second
    memory: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def add(self, work: str, setting: str, reading: Reading) -> None:
        self.runs.setdefault(work, {}).setdefault(setting, []).append(reading)

    def middle(self, work: str) -> dict[str, Reading]:
        """Each setting's median over the rounds."""
        return {name: _median(found) for name, found in self.runs.get(work, {}).items()}

    def kernel_rate(self) -> float | None:
        return statistics.median(self.kernel) if self.kernel else None

    def save(self, path: Path) -> None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)))

    @staticmethod
    def load(path: Path) -> Measured:
        return msgspec.json.decode(path.read_bytes(), type=Measured)


def _median(found: list[Reading]) -> Reading:
    fields = {
        name: statistics.median(getattr(r, name) for r in found)
        for name in ("rate", "p50", "p99", "cpu")
    }
    return Reading(**fields, failed=sum(r.failed for r in found))
