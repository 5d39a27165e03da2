"""What a version is to its callers now: as the registry has it, unless its nodes refuse it.

A quarantine is the nodes' own and in memory: it is seen here, where replies are made, and never
stored.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple

from aiaas_async.names import ModelRef
from aiaas_async.node.quarantine import REASON, Quarantine
from aiaas_async.registry.records import VersionRecord

QUARANTINED: Final = "quarantined"
_REASON: Final = (
    f"{REASON}; calls are refused until then: call another version, or commit a repaired one"
)


class Standing(NamedTuple):
    """`until` are Unix seconds, of what ends by itself."""

    state: str
    reason: str | None = None
    until: float | None = None


class Standings:
    """What `quarantine` holds, read once: for a reply that shows many versions."""

    def __init__(self, quarantine: Quarantine) -> None:
        self._waits = quarantine.held(asyncio.get_running_loop().time())
        self._now = time.time()

    def of(self, record: VersionRecord) -> Standing:
        found = self.quarantined(record.ref) if record.state == "ready" else None
        return found or Standing(record.state, record.reason)

    def quarantined(self, ref: ModelRef) -> Standing | None:
        """Of a version that the nodes refuse; None: they do not."""
        wait = self._waits.get(str(ref))
        return None if wait is None else Standing(QUARANTINED, _REASON, self._until(wait))

    def all_quarantined(self) -> list[dict[str, object]]:
        """JSON-like facts of what the nodes refuse."""
        return [
            {"version": version, "reason": _REASON, "until": self._until(wait)}
            for version, wait in sorted(self._waits.items())
        ]

    def _until(self, wait: float) -> float:
        return round(self._now + wait, 1)
