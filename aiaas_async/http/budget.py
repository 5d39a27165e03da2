"""The budget of request bodies: bytes in memory, over all connections, until each is answered.

Where a body waits once it is read (at a reader, in a mailbox, for its turn in a sequence, for a
deployment that moves) there are bounds of their own; this is the one of all of them together.
"""

from __future__ import annotations

from typing import Final

from aiaas_async.errors import OverloadedError
from aiaas_async.http.pace import Pace

AT_EASE: Final = Pace(rate=0)


class BodyBudget:
    """Bytes of bodies that may be held at once, and the pace at which each must come."""

    def __init__(self, limit: int, pace: Pace = AT_EASE) -> None:
        self.limit, self.used = limit, 0
        self.pace = pace

    def take(self, nbytes: int) -> None:
        """Raises `OverloadedError` when the server holds too many bodies already."""
        if self.used and self.used + nbytes > self.limit:
            raise OverloadedError(
                f"{self.used} bytes of request bodies are not answered yet; try again later",
                retry_after=1.0,
            )
        self.used += nbytes

    def give_back(self, nbytes: int) -> None:
        self.used -= nbytes


class Share:
    """What one body takes of the budget."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget, self._taken = budget, 0
        self.pace = budget.pace

    def grow_to(self, nbytes: int) -> None:
        """Raises `OverloadedError`."""
        if nbytes > self._taken:
            self._budget.take(nbytes - self._taken)
            self._taken = nbytes

    def give_back(self) -> None:
        self._budget.give_back(self._taken)
        self._taken = 0
