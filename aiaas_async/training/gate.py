"""A gate: what a trained version must reach to be promoted, as "val_accuracy >= 0.97"."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aiaas_async.errors import InvalidError
from aiaas_async.names import clip
from aiaas_async.nn.graph import near

METRICS: Final = ("loss", "accuracy", "val_loss", "val_accuracy")
_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM: Final = re.compile(r"\s*(\w{1,64})\s*(>=|<=|>|<)\s*(-?\d{1,12}(?:\.\d{1,12})?)\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Gate:
    metric: str
    sign: str
    limit: float

    def refusal(self, metrics: Mapping[str, float]) -> str | None:
        """Why a version with `metrics` does not pass; None: it does."""
        found = metrics.get(self.metric, math.nan)
        if _COMPARE[self.sign](found, self.limit):
            return None
        got = "was not measured" if math.isnan(found) else f"is {found:.6g}"
        return f"{self.metric} {got}; the gate asks for {self}"

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.limit:g}"


def parse_gate(text: str, validation: float) -> Gate:
    """`text` as a gate; `validation` is the share of items held back. Raises `InvalidError`."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise InvalidError(
            f"gate {clip(text)} must be a metric, one of >= <= > <, and a number: "
            "'val_accuracy >= 0.97'"
        )
    metric, sign, limit = found.groups()
    if metric not in METRICS:
        raise InvalidError(f"gate: {clip(metric)} is no metric{near(metric, METRICS)}")
    if metric.startswith("val_") and not validation:
        raise InvalidError(f"gate: {metric} needs held-out items, but plan.validation is 0")
    return Gate(metric, sign, float(limit))
