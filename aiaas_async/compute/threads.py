"""How many threads products use in this process: as many as the job at hand may have.

BLAS's libraries are looked for when that first changes, which takes milliseconds: where nothing
is lent, never.
"""

from __future__ import annotations

from typing import Any

from threadpoolctl import ThreadpoolController

from aiaas_async.nn.team import TEAM


class BlasThreads:
    """Those of every BLAS that is loaded, and of the team that computes what BLAS is given in
    small blocks; 0 stands for as many as the process began with."""

    def __init__(self) -> None:
        self._libraries: list[tuple[Any, int]] | None = None  # each with its first number
        self._now = 0

    def use(self, count: int) -> None:
        """Use `count` threads from now on. 0.2 us where it changes."""
        if count == self._now:
            return
        if self._libraries is None:
            found = ThreadpoolController().select(user_api="blas").lib_controllers
            self._libraries = [(library, library.get_num_threads()) for library in found]
        for library, first in self._libraries:
            library.set_num_threads(count or first)
        TEAM.use(count)
        self._now = count
