"""How busy other processes keep the machine, for figures that need all of its cores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class Others:
    """What processes other than `pids` take of the machine's cores (Linux). More may be added to
    `pids`; of one that ended counts what it had taken when it was last looked at."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.pids = list(pids)
        self.spent: dict[int, int] = {}
        self.before = self.look()

    def look(self) -> tuple[int, int]:
        """(all time, time that others were busy) so far, in ticks."""
        fields = Path("/proc/stat").read_text().splitlines()[0].split()
        ticks = [int(each) for each in fields[1:9]]
        for pid in self.pids:
            try:
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            self.spent[pid] = int(stat[11]) + int(stat[12])
        return sum(ticks), sum(ticks) - ticks[3] - ticks[4] - sum(self.spent.values())

    def share(self) -> float:
        """Since it was last asked."""
        (total, busy), before = self.look(), self.before
        self.before = (total, busy)
        return (busy - before[1]) / max(1, total - before[0])


def calm(rounds: Sequence[tuple[float, T]], limit: float) -> int:
    """In how many rounds others took no more than `limit` of the machine."""
    return sum(share <= limit for share, _ in rounds)


def calmest(rounds: Sequence[tuple[float, T]], count: int) -> list[tuple[float, T]]:
    """The `count` rounds in which others took least, the calmest first."""
    return sorted(rounds, key=lambda each: each[0])[:count]
