"""Rows of a column file, mapped: for workers, which read a data set where it lies.

Each look maps just the rows it wants, and nothing stays open: a file that was deleted goes when
the last look at it ends.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiaas_async.data.schema import Column
from aiaas_async.errors import CorruptError

# Pages come in one go: else each 64 KiB cost a fault of their own.
_FLAGS: Final = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)


def map_rows(file: Path, column: Column, start: int, stop: int) -> NDArray[Any]:
    """Rows `start` to `stop` - 1 of `file` as a read-only array [stop - start, *shape].

    Raises `CorruptError` when the file is not there or ends before them.
    """
    begin, end = start * column.nbytes, stop * column.nbytes
    page = begin - begin % mmap.ALLOCATIONGRANULARITY
    try:
        with file.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), end - page, _FLAGS, mmap.PROT_READ, offset=page)
    except (OSError, ValueError) as error:
        raise CorruptError(
            f"column file {file.name} has no rows {start} to {stop}: the data set was changed on "
            "disk, or deleted"
        ) from error
    count = (end - begin) // column.numpy.itemsize
    array = np.frombuffer(mapped, column.numpy, count, begin - page)
    return array.reshape(stop - start, *column.shape)
