"""Remembered responses: which answers stay within a budget of bytes. Pure policy.

The least recently used goes first. An answer larger than the whole budget is not remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

# What an entry costs beside its arrays: the key, the dictionary's place, the array objects.
ENTRY_BYTES: Final = 512

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Held:
    """Of a moment: answers and the bytes they take. Since the start: answers that made room."""

    entries: int
    nbytes: int
    evictions: int


class Responses(Generic[V]):
    """Answers by key, at most `budget` bytes of them."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._entries: OrderedDict[bytes, tuple[V, int]] = OrderedDict()
        self._bytes = 0
        self._evictions = 0

    def get(self, key: bytes) -> V | None:
        """The answer, which is then the most recently used."""
        found = self._entries.get(key)
        if found is None:
            return None
        self._entries.move_to_end(key)
        return found[0]

    def can_hold(self, nbytes: int) -> bool:
        """Whether an answer of `nbytes` would be remembered."""
        return nbytes + ENTRY_BYTES <= self.budget

    def put(self, key: bytes, value: V, nbytes: int) -> bool:
        """Remember an answer, in place of any with its key; says whether there was room."""
        if not self.can_hold(nbytes):
            return False
        self._drop(key)
        cost = nbytes + ENTRY_BYTES
        while self._bytes + cost > self.budget:
            self._drop(next(iter(self._entries)))
            self._evictions += 1
        self._entries[key] = (value, cost)
        self._bytes += cost
        return True

    def _drop(self, key: bytes) -> None:
        found = self._entries.pop(key, None)
        if found is not None:
            self._bytes -= found[1]

    def statistics(self) -> Held:
        return Held(len(self._entries), self._bytes, self._evictions)

    def __repr__(self) -> str:
        return f"<Responses: {len(self._entries)} in {self._bytes} of {self.budget} bytes>"
