"""How busy other processes keep the machine, for figures that need all of its cores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class Others:
    """What processes other than `pids` take of the machine's cores (Linux)."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.pids = pids
        self.before = self.look()

    def look(self) -> tuple[int, int]:
        """(all time, time that others were busy) so far, in ticks."""
        fields = Path("/proc/stat").read_text().splitlines()[0].split()
        ticks = [int(each) for each in fields[1:9]]
        ours = 0
        for pid in self.pids:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ours += int(stat[11]) + int(stat[12])
        return sum(ticks), sum(ticks) - ticks[3] - ticks[4] - ours

    def share(self) -> float:
        """Since it was last asked."""
        (total, busy), before = self.look(), self.before
        self.before = (total, busy)
        return (busy - before[1]) / max(1, total - before[0])
