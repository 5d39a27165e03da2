"""What the kernel says of this machine and of our processes, read from /proc.

Where there is no /proc the figures are missing, not zero. Reading a process's proportional
memory walks its page tables (a millisecond for 100 MB), so none of this is for the event loop.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_KIB_LINE: Final = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)


class ProcessFigures(NamedTuple):
    """`resident` and `proportional` in bytes; `cpu_s` since it was started."""

    resident: int
    proportional: int
    cpu_s: float


class Memory(NamedTuple):
    """Of the machine, in bytes."""

    total: int
    used: int


def process_figures(pid: int) -> ProcessFigures | None:
    """Of one process; None when it has ended, or the kernel does not tell."""
    try:
        sizes = _sizes((_PROC / str(pid) / "smaps_rollup").read_text())
        # The name, in parentheses, may hold spaces and parentheses.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if "Rss" not in sizes:
        return None
    return ProcessFigures(sizes["Rss"], sizes["Pss"], (int(fields[11]) + int(fields[12])) / _TICKS)


def descendants(pid: int) -> list[int]:
    """The processes that `pid` started, and those they started."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = _children(waiting.pop())
        found += children
        waiting += children
    return found


def _children(pid: int) -> list[int]:
    try:
        files = list((_PROC / str(pid) / "task").glob("*/children"))
        return [int(child) for file in files for child in file.read_text().split()]
    except OSError:  # it has ended, or the kernel does not tell
        return []


def memory() -> Memory | None:
    """None when the kernel does not tell."""
    try:
        sizes = _sizes((_PROC / "meminfo").read_text())
    except OSError:
        return None
    total = sizes.get("MemTotal", 0)
    return Memory(total, total - sizes.get("MemAvailable", 0))


def _sizes(text: str) -> dict[str, int]:
    return {name: int(kib) << 10 for name, kib in _KIB_LINE.findall(text)}


class CpuMeter:
    """How busy the machine's cores were between two looks."""

    def __init__(self) -> None:
        self._last = _busy_and_all()
        self._share = 0.0

    def share(self) -> float | None:
        """Since the last look, 0 to 1; None when the kernel does not tell."""
        now = _busy_and_all()
        if now is None or self._last is None:
            return None
        busy, everything = now[0] - self._last[0], now[1] - self._last[1]
        if everything > 0:
            self._share = min(1.0, max(0.0, busy / everything))
            self._last = now
        return self._share


def _busy_and_all() -> tuple[int, int] | None:
    try:
        with (_PROC / "stat").open() as file:
            ticks = [int(field) for field in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    idle = ticks[3] + ticks[4]  # idle, and waiting for a disk
    return sum(ticks) - idle, sum(ticks)
