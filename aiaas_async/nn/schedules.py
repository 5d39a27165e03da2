"""Learning-rate schedules: pure functions of the step, counted from 0."""

from __future__ import annotations

import math
from typing import Annotated, Final

import msgspec

Steps = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class Constant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same factor throughout, after `warmup` steps of a straight rise."""

    warmup: Annotated[int, msgspec.Meta(ge=0)] = 0

    def factor(self, step: int, total: int) -> float:
        """What to multiply the learning rate with at `step` of `total`."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return self.after_warmup(step - self.warmup, max(1, total - self.warmup))

    def after_warmup(self, step: int, total: int) -> float:
        del step, total
        return 1.0


class Step(Constant, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Multiplied by `gamma` after each `every` steps."""

    every: Steps
    gamma: Share = 0.1

    def after_warmup(self, step: int, total: int) -> float:
        return float(self.gamma ** (step // self.every))


class Cosine(Constant, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Half a cosine from 1 to `floor` at the last step (Loshchilov and Hutter 2017)."""

    floor: Share = 0.0

    def after_warmup(self, step: int, total: int) -> float:
        share = min(1.0, step / max(1, total - 1))
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * share))


SCHEDULES: Final[dict[str, type[Constant]]] = {
    "constant": Constant,
    "step": Step,
    "cosine": Cosine,
}
