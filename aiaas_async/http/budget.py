"""The budget of bodies: bytes in memory over all connections, of requests until each is answered,
and of replies until each is read.

Where a body waits once it is read (at a reader, in a mailbox, for its turn in a sequence, for a
deployment that moves) there are bounds of their own; this is the one of all of them together. A
small request may have a large reply, so while the budget is used up nobody new is served.
"""

from __future__ import annotations

from typing import Final

from aiaas_async.errors import OverloadedError
from aiaas_async.http.pace import Pace

AT_EASE: Final = Pace(rate=0)


class BodyBudget:
    """Bytes of bodies that may be held at once, and the pace at which each must come and go."""

    def __init__(self, limit: int, pace: Pace = AT_EASE) -> None:
        self.limit, self.used = limit, 0
        self.pace = pace

    def take(self, nbytes: int) -> None:
        """Raises `OverloadedError` when the server holds too many bodies already."""
        if self.used and self.used + nbytes > self.limit:
            raise self._refusal()
        self.used += nbytes

    def hold(self, nbytes: int) -> None:
        """Count what is there in any case: a reply that its caller does not read as it comes."""
        self.used += nbytes

    def check_room(self) -> None:
        """Raises `OverloadedError` when there is no room for anybody's body or reply."""
        if self.used >= self.limit:
            raise self._refusal()

    def _refusal(self) -> OverloadedError:
        return OverloadedError(
            f"{self.used} bytes of requests are not answered or of replies not read yet; try again "
            "later",
            retry_after=1.0,
        )

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
