"""Rewriting a shard without the rows that no longer count, in a folder of its own.

What was not finished when the power failed is removed by the next `open`: no layout names it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from aiaas_async.data.keys import gather
from aiaas_async.data.mapped import map_rows
from aiaas_async.data.shard import Shard

_STEP_BYTES: Final = 2**26  # values held in memory at a time


def prepare_copy(old: Shard, fresh: Shard) -> None:
    """Prepare on `fresh`, which is empty, the rows of `old` that count. Checksums are carried
    over, so that damage is carried as damage. Raises `StorageError`, `CorruptError`."""
    rows = old.table.live_rows()
    step = max(1, _STEP_BYTES // sum(column.nbytes for column in old.columns.values()))
    log = (old.folder / "log").read_bytes() if len(rows) else b""
    for at in range(0, len(rows), step):
        part = rows[at : at + step]
        first, last = int(part[0]), int(part[-1]) + 1
        arrays = {
            name: np.ascontiguousarray(map_rows(path, old.columns[name], first, last)[part - first])
            for name, path in old.files()
        }
        facts = old.table.facts[part].copy()
        keys = gather(log, facts["key_at"].astype(np.int64), facts["key_len"])
        fresh.prepare(facts, keys, arrays, np.empty(0, np.int64))
