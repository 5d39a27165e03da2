"""How long a row of each model takes, as measured lately."""

from __future__ import annotations

from typing import Final

_KEPT: Final = 0.9  # weight that the past keeps with each new measurement
UNKNOWN_S: Final = 0.001
_SETTLED_ROWS: Final = 5.0  # the first pay for pages and caches that are cold


class Rates:
    """Seconds and rows, both fading alike: large batches count for as many rows as they have."""

    def __init__(self) -> None:
        self._measured: dict[str, tuple[float, float]] = {}

    def record(self, model: str, rows: int, seconds: float) -> None:
        """`rows` of `model` took `seconds`."""
        spent, done = self._measured.get(model, (0.0, 0.0))
        self._measured[model] = (spent * _KEPT + seconds, done * _KEPT + rows)

    def row_s(self, model: str) -> float | None:
        """Seconds a row, None before the first measurement."""
        measured = self._measured.get(model)
        return None if measured is None or not measured[1] else measured[0] / measured[1]

    def is_settled(self, model: str) -> bool:
        """Whether enough rows were measured for `expected_s` to be relied on."""
        measured = self._measured.get(model)
        return measured is not None and measured[1] >= _SETTLED_ROWS

    def expected_s(self, model: str, rows: int) -> float:
        """Seconds that `rows` should take; a millisecond in all while nothing is known."""
        row_s = self.row_s(model)
        return UNKNOWN_S if row_s is None else row_s * rows

    def forget(self, model: str) -> None:
        self._measured.pop(model, None)

    def __repr__(self) -> str:
        return f"<Rates of {len(self._measured)} models>"
