"""Residency: which versions a node keeps loaded within its memory budget. Pure policy.

Least recently used goes first; what is pinned or under way stays. The worker does its jobs in
order, so an unload can never overtake a call. A pin outlives the worker: what it held is loaded
again when it is called, and its room is nobody else's meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aiaas_async.errors import MemoryBudgetError, UnplaceableError


@dataclass(slots=True)
class Resident:
    """`nbytes` count against the budget; `under_way` is how many jobs use it just now."""

    nbytes: int
    under_way: int = 0
    used: int = 0


class Residency:
    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._residents: dict[str, Resident] = {}
        self._pins: dict[str, int] = {}
        self._clock = 0

    def __contains__(self, model: str) -> bool:
        return model in self._residents

    def __iter__(self) -> Iterator[str]:
        return iter(self._residents)

    @property
    def used(self) -> int:
        """Bytes held."""
        return sum(resident.nbytes for resident in self._residents.values())

    @property
    def free(self) -> int:
        """Bytes that are not held by pinned versions: the others may be unloaded."""
        return max(0, self.budget - sum(self._pins.values()))

    @property
    def pinned(self) -> frozenset[str]:
        return frozenset(self._pins)

    def room_for(self, nbytes: int) -> list[str]:
        """The versions to unload, in order, so that `nbytes` fit.

        Raises `MemoryBudgetError` when they cannot fit just now, `UnplaceableError` when they are
        more than the whole budget.
        """
        if nbytes > self.budget:
            raise UnplaceableError(
                f"{nbytes} bytes do not fit: the node's whole budget is {self.budget} bytes; "
                "deploy the version in parts over several nodes, or raise node_memory_mb",
                {"needed": nbytes, "budget": self.budget},
            )
        missing = self.used + nbytes - self.budget
        idle = [m for m, r in self._residents.items() if m not in self._pins and not r.under_way]
        idle.sort(key=lambda model: self._residents[model].used)
        victims = []
        for model in idle:
            if missing <= 0:
                break
            missing -= self._residents[model].nbytes
            victims.append(model)
        if missing > 0:
            raise MemoryBudgetError(
                f"{nbytes} bytes do not fit: the node's budget is {self.budget} bytes and "
                f"{self.used} are held by versions that are pinned or under way; unload one, "
                "or raise node_memory_mb",
                {"needed": nbytes, "budget": self.budget, "used": self.used},
            )
        return victims

    def add(self, model: str, nbytes: int) -> None:
        self._residents[model] = Resident(nbytes)
        self.touch(model)

    def remove(self, model: str) -> None:
        self._residents.pop(model, None)

    def touch(self, model: str) -> None:
        self._clock += 1
        self._residents[model].used = self._clock

    def pin(self, model: str) -> None:
        self._pins[model] = self._residents[model].nbytes

    def unpin(self, model: str) -> None:
        self._pins.pop(model, None)

    def begin(self, model: str) -> None:
        self.touch(model)
        self._residents[model].under_way += 1

    def end(self, model: str) -> None:
        """A job that used `model` is over; the version may be gone with its worker."""
        resident = self._residents.get(model)
        if resident is not None and resident.under_way:
            resident.under_way -= 1

    def clear(self) -> None:
        """The worker is gone, and everything it held."""
        self._residents.clear()
