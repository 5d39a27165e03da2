"""How many threads products use in this process: as many as the job at hand may have.

BLAS's libraries are looked for when that first changes, which takes milliseconds: where nothing
is lent, never.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from threadpoolctl import ThreadpoolController

from aiaas_async.nn.team import TEAM, threads_at_start

_LARGE: Final = 256


class BlasThreads:
    """Those of every BLAS that is loaded, and of the team that computes what BLAS is given in
    small blocks; 0 stands for as many as the process began with."""

    def __init__(self) -> None:
        if threads_at_start() > 1:
            # OpenBLAS starts its threads at the first product that is large enough, of which 100^3
            # is not. Started while a team keeps cores, all would have the caller's one.
            np.ones((_LARGE, _LARGE), np.float32) @ np.ones((_LARGE, _LARGE), np.float32)
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

    def rest(self) -> None:
        """The job is done."""
        TEAM.rest()
