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
        recent = {m: deaths for m, deaths in self._deaths.items() if now - deaths[-1] < WINDOW_S}
        recent.setdefault(model, deque(maxlen=MAX_DEATHS)).append(now)
        self._deaths = recent  # deaths are rare: this is where what nobody asks for is forgotten

    def check(self, model: str, now: float) -> None:
        """Raise `QuarantinedError` while `model` is quarantined."""
        deaths = self._deaths.get(model)
        if deaths is None or now - deaths[-1] >= WINDOW_S:
            return
        if len(deaths) == MAX_DEATHS and deaths[-1] - deaths[0] < WINDOW_S:
            wait = WINDOW_S - (now - deaths[-1])
            raise QuarantinedError(
                f"{model} killed its compute process {MAX_DEATHS} times within {WINDOW_S:.0f} s "
                f"and is refused for another {wait:.0f} s; commit a repaired version",
                retry_after=wait,
            )
