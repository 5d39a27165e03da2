"""How long a row of each model takes, as measured lately, and how much longer a batch with it.

A batch of a network whose weights must come from memory takes hardly longer for one row more: 32
rows of 4 dense layers of 4096 units take 36 ms, one takes 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_KEPT: Final = 0.9  # weight that the past keeps with each new measurement
UNKNOWN_S: Final = 0.001
_SETTLED_ROWS: Final = 5.0  # the first pay for pages and caches that are cold
# Batches must differ by as much, squared and over their mean, for their times to tell what a row
# more takes: of 8 to 10 rows the noise of a machine would tell it.
_SPREAD: Final = 0.1
_CHEAPEST: Final = 1 / 16  # of what a row takes by the average: no row more is taken for less


@dataclass(slots=True)
class _Lately:
    """Sums over batches, all fading alike: large batches count for as many rows as they have."""

    batches: float = 0.0
    rows: float = 0.0
    seconds: float = 0.0
    squares: float = 0.0  # of rows
    products: float = 0.0  # of rows and seconds

    def add(self, rows: int, seconds: float) -> None:
        self.batches = self.batches * _KEPT + 1
        self.rows = self.rows * _KEPT + rows
        self.seconds = self.seconds * _KEPT + seconds
        self.squares = self.squares * _KEPT + rows * rows
        self.products = self.products * _KEPT + rows * seconds

    @property
    def row_s(self) -> float:
        """Seconds a row, by the average."""
        return self.seconds / self.rows

    @property
    def slope(self) -> float:
        """Seconds that a row more takes: the line through the batches by least squares, drawn
        towards the one through the origin (a ridge) the more alike the batches are."""
        mean, row_s = self.rows / self.batches, self.seconds / self.rows
        ridge = _SPREAD * mean * self.rows
        spread = self.squares - mean * self.rows
        together = self.products - mean * self.seconds
        found = (together + ridge * row_s) / (spread + ridge)
        return min(row_s, max(_CHEAPEST * row_s, found))


class Rates:
    """Of models by name."""

    def __init__(self) -> None:
        self._measured: dict[str, _Lately] = {}

    def record(self, model: str, rows: int, seconds: float) -> None:
        """A batch of `rows`, one at least, of `model` took `seconds`."""
        lately = self._measured.get(model)
        if lately is None:
            lately = self._measured[model] = _Lately()
        lately.add(rows, seconds)

    def row_s(self, model: str) -> float | None:
        """Seconds a row, None before the first measurement."""
        measured = self._measured.get(model)
        return None if measured is None else measured.row_s

    def is_settled(self, model: str) -> bool:
        """Whether enough rows were measured for the others to be relied on."""
        measured = self._measured.get(model)
        return measured is not None and measured.rows >= _SETTLED_ROWS

    def expected_s(self, model: str, rows: int) -> float:
        """Seconds that `rows` should take; a millisecond in all while nothing is known."""
        measured = self._measured.get(model)
        return UNKNOWN_S if measured is None else measured.seconds / measured.rows * rows

    def added_s(self, model: str, rows: int) -> float:
        """Seconds by which `rows` should lengthen a batch of others."""
        measured = self._measured.get(model)
        return UNKNOWN_S if measured is None else measured.slope * rows

    def forget(self, model: str) -> None:
        self._measured.pop(model, None)

    def __repr__(self) -> str:
        return f"<Rates of {len(self._measured)} models>"
