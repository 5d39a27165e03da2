"""Quarantine: a version that keeps killing its worker is refused for a while. Pure policy.

Three deaths in a minute, as Dask's `allowed-failures` and Erlang's restart intensity have it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from aiaas_async.errors import QuarantinedError

MAX_DEATHS = 3
WINDOW_S = 60.0
REASON: Final = f"it killed its compute process {MAX_DEATHS} times within {WINDOW_S:.0f} s"


class Quarantine:
    """Shared by all nodes: a poisonous version is poisonous everywhere. Times in seconds; a
    model is a version's "name:version", or that of a piece of it, "name:version#…"."""

    def __init__(self) -> None:
        self._deaths: dict[str, deque[float]] = {}

    def record(self, model: str, now: float) -> None:
        """A worker died while it ran `model`."""
        recent = {m: deaths for m, deaths in self._deaths.items() if now - deaths[-1] < WINDOW_S}
        recent.setdefault(model, deque(maxlen=MAX_DEATHS)).append(now)
        self._deaths = recent  # deaths are rare: this is where what nobody asks for is forgotten

    def check(self, model: str, now: float) -> None:
        """Raise `QuarantinedError` while `model` is quarantined."""
        if model in self._deaths and (wait := self._wait(model, now)):
            raise QuarantinedError(
                f"{model} killed its compute process {MAX_DEATHS} times within {WINDOW_S:.0f} s "
                f"and is refused for another {wait:.0f} s; commit a repaired version",
                retry_after=wait,
            )

    def _wait(self, model: str, now: float) -> float:
        """How long `model` is refused still; 0: it is not."""
        deaths = self._deaths.get(model)
        if deaths is None or now - deaths[-1] >= WINDOW_S:
            return 0.0
        if len(deaths) < MAX_DEATHS or deaths[-1] - deaths[0] >= WINDOW_S:
            return 0.0
        return WINDOW_S - (now - deaths[-1])

    def held(self, now: float) -> dict[str, float]:
        """The versions that are refused, whole or in pieces, and for how long still."""
        waits: dict[str, float] = {}
        for model in self._deaths:
            version = model.partition("#")[0]
            if wait := self._wait(model, now):
                waits[version] = max(wait, waits.get(version, 0.0))
        return waits

    def forget(self, version: str) -> None:
        """A version is deleted: another one of its name has killed nobody."""
        self._deaths = {m: d for m, d in self._deaths.items() if m.partition("#")[0] != version}
