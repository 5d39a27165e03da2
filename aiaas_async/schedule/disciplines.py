"""The disciplines by name, as the setting `schedule` and the bench know them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from aiaas_async.errors import InvalidError
from aiaas_async.names import clip
from aiaas_async.schedule.fair import Fair
from aiaas_async.schedule.fifo import Fifo
from aiaas_async.schedule.ordered import EarliestDeadline, HighestPriority, ShortestFirst
from aiaas_async.schedule.waiting import Discipline, Waiting

W = TypeVar("W", bound=Waiting)

CALLS: Final = "call"
BATCH: Final = "batch"
# Someone waits for a call; a batch job has all night.
WEIGHTS: Final = {CALLS: 4.0}


def _fair() -> Fair[Any]:
    return Fair(WEIGHTS)


DISCIPLINES: Final[dict[str, Callable[[], Discipline[Any]]]] = {
    "fifo": Fifo,
    "priority": HighestPriority,
    "sjf": ShortestFirst,
    "edf": EarliestDeadline,
    "fair": _fair,
}


def make_discipline(name: str) -> Discipline[Any]:
    """An empty queue of the discipline `name`. Raises `InvalidError` for one nobody knows."""
    try:
        return DISCIPLINES[name]()
    except KeyError:
        known = ", ".join(DISCIPLINES)
        raise InvalidError(f"no schedule is called {clip(name)}; known: {known}") from None
