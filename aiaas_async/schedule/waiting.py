"""What a policy may know of work that waits, and what it must do with it.

Time is whatever clock the caller uses, in seconds: a simulation's is as good as the loop's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar


class Waiting(Protocol):
    """`flow` is the kind of work, `tenant` whose it is; of two, the higher `priority` is more
    urgent; `expected_s` is how long the work should take once it runs."""

    @property
    def flow(self) -> str: ...
    @property
    def tenant(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def deadline(self) -> float | None: ...
    @property
    def expected_s(self) -> float: ...


W = TypeVar("W", bound=Waiting)
E = TypeVar("E")


class Discipline(Protocol[E]):
    """The order in which waiting items are taken."""

    def push(self, item: E) -> None: ...
    def pop(self) -> E:
        """Remove and return the next item. Raises `IndexError` when none waits."""

    def take_like(self, fits: Callable[[E], bool], limit: int) -> list[E]:
        """Remove and return up to `limit` further items that satisfy `fits`, in order."""

    def give_way(self, item: E) -> E | None:
        """Remove and return what should not keep `item` out of a full queue: None where all that
        waits has as good a right."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[E]: ...
