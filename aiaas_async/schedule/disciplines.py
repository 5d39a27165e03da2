"""The disciplines by name, as the setting `schedule` and the bench know them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from aiaas_async.errors import InvalidError
from aiaas_async.names import clip
from aiaas_async.schedule.fair import Fair
from aiaas_async.schedule.fifo import Fifo
from aiaas_async.schedule.ordered import EarliestDeadline, HighestPriority, ShortestFirst
from aiaas_async.schedule.origin import WEIGHTS
from aiaas_async.schedule.waiting import Discipline

DISCIPLINES: Final[dict[str, Callable[[Mapping[str, float]], Discipline[Any]]]] = {
    "fifo": lambda _: Fifo(),
    "priority": lambda _: HighestPriority(),
    "sjf": lambda _: ShortestFirst(),
    "edf": lambda _: EarliestDeadline(),
    "fair": lambda tenants: Fair(WEIGHTS, tenants=tenants),
}
_NO_TENANTS: Final[Mapping[str, float]] = {}


def make_discipline(name: str, tenants: Mapping[str, float] = _NO_TENANTS) -> Discipline[Any]:
    """An empty queue of the discipline `name`; `tenants` are the weights that `fair` goes by.

    Raises `InvalidError` for one nobody knows."""
    try:
        return DISCIPLINES[name](tenants)
    except KeyError:
        known = ", ".join(DISCIPLINES)
        raise InvalidError(f"no schedule is called {clip(name)}; known: {known}") from None
