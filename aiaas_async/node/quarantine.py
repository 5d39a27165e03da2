"""Quarantine: a version that keeps killing its worker is refused for a while. Pure policy.

Three deaths in a minute, as Dask's `allowed-failures` and Erlang's restart intensity have it.
"""

from __future__ import annotations

from collections import deque

from aiaas_async.errors import QuarantinedError

MAX_DEATHS = 3
WINDOW_S = 60.0


class Quarantine:
    """Shared by all nodes: a poisonous version is poisonous everywhere. Times in seconds."""

    def __init__(self) -> None:
        self._deaths: dict[str, deque[float]] = {}

    def record(self, model: str, now: float) -> None:
        """A worker died while it ran `model`."""
        self._deaths.setdefault(model, deque(maxlen=MAX_DEATHS)).append(now)

    def check(self, model: str, now: float) -> None:
        """Raise `QuarantinedError` while `model` is quarantined."""
        deaths = self._deaths.get(model)
        if deaths is None:
            return
        if now - deaths[-1] >= WINDOW_S:
            del self._deaths[model]
        elif len(deaths) == MAX_DEATHS and deaths[-1] - deaths[0] < WINDOW_S:
            wait = WINDOW_S - (now - deaths[-1])
            raise QuarantinedError(
                f"{model} killed its compute process {MAX_DEATHS} times within {WINDOW_S:.0f} s "
                f"and is refused for another {wait:.0f} s; commit a repaired version",
                retry_after=wait,
            )

    def quarantined(self, now: float) -> list[str]:
        """The versions refused just now."""
        found = []
        for model in list(self._deaths):
            try:
                self.check(model, now)
            except QuarantinedError:
                found.append(model)
        return found
