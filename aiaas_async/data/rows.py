"""The rows of one shard in memory: what the log says of each, and whether it still counts.

33 bytes a row, and at most a quarter more for growing (as much again below 65,536 rows).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiaas_async.data.journal import ROW, Block

_MANY: Final = 65_536


class RowTable:
    """Facts and liveness by row number. One writer; readers see only whole blocks."""

    def __init__(self) -> None:
        self._facts = np.empty(0, ROW)
        self._live = np.empty(0, np.bool_)
        self.count = 0
        self.live_count = 0

    def add(self, block: Block) -> None:
        """Append the block's rows, all live; `end` their predecessors next."""
        count = self.count + len(block.rows)
        if count > len(self._facts):
            room = count * (5 if count > _MANY else 8) // 4
            self._facts = _grown(self._facts, self.count, room)
            self._live = _grown(self._live, self.count, room)
        _bytes(self._facts[self.count : count])[:] = _bytes(block.rows)
        self._live[self.count : count] = True
        self.live_count += len(block.rows)
        self.count = count

    def end(self, block: Block) -> None:
        """Mark the rows that ended with the block."""
        self._live[block.gone.astype(np.int64)] = False
        self.live_count -= len(block.gone)

    @property
    def facts(self) -> NDArray[Any]:
        return self._facts[: self.count]

    @property
    def live(self) -> NDArray[np.bool_]:
        return self._live[: self.count]

    def live_rows(self) -> NDArray[np.int64]:
        """The numbers of the rows that count, ascending."""
        return np.flatnonzero(self.live)


def _grown(array: NDArray[Any], used: int, room: int) -> NDArray[Any]:
    larger = np.empty(room, array.dtype)
    _bytes(larger[:used])[:] = _bytes(array[:used])
    return larger


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Of rows, copied as they lie: numpy would copy them field by field, in three times the
    time."""
    return array.view(np.uint8)
