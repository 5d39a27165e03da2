"""First come, first served."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

E = TypeVar("E")


class Fifo(Generic[E]):
    def __init__(self) -> None:
        self._items: deque[E] = deque()

    def push(self, item: E) -> None:
        self._items.append(item)

    def pop(self) -> E:
        return self._items.popleft()

    def take_like(self, fits: Callable[[E], bool], limit: int) -> list[E]:
        taken: list[E] = []
        items = self._items
        while items and len(taken) < limit and fits(items[0]):
            taken.append(items.popleft())
        if not items or len(taken) >= limit:
            return taken
        rest: list[E] = []
        for item in items:
            (taken if len(taken) < limit and fits(item) else rest).append(item)
        self._items = deque(rest)
        return taken

    def give_way(self, item: E) -> E | None:  # noqa: ARG002 - a port's signature
        return None

    def pop_last(self) -> E:
        """Remove and return what came last. Raises `IndexError` when nothing waits."""
        return self._items.pop()

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[E]:
        return iter(self._items)

    def __repr__(self) -> str:
        return f"<Fifo of {len(self)}>"
