"""Where a training run stands between two steps: everything the next step depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiaas_async.nn.layer import Array

Params = Mapping[str, Array]
History = tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over the steps of the epoch under way; `decisions` are (right, all)."""

    loss: float = 0.0
    items: int = 0
    right: int = 0
    decided: int = 0
    norm: float = 0.0
    steps: int = 0
    learning_rate: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Best:
    """The epoch (from 1) whose watched metric was best, and its parameters."""

    value: float
    epoch: int
    params: Params


@dataclass(frozen=True, slots=True)
class State:
    """After `epoch` whole epochs, `batch` steps of the next and `step` steps in all.

    Never changed in place: a step makes a new one. `history` has one entry per epoch.
    """

    params: Params
    slots: Params
    epoch: int = 0
    batch: int = 0
    step: int = 0
    tally: Tally = Tally()
    best: Best | None = None
    history: History = ()

    @property
    def resulting(self) -> Params:
        """The parameters a finished run hands out."""
        return self.best.params if self.best is not None else self.params

    @property
    def metrics(self) -> dict[str, Any]:
        """The entry of `history` that belongs to `resulting`."""
        at = self.best.epoch if self.best is not None else len(self.history)
        return self.history[at - 1] if self.history else {}
