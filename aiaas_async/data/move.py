"""Moving items to where another placement wants them, and only those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aiaas_async.data.placement import Placement
from aiaas_async.data.shard import Shard
from aiaas_async.data.source import Source

_MOVE_BYTES: Final = 2**26  # values held in memory at a time
_NO_ROWS: Final = np.empty(0, np.int64)


def prepare_move(shards: Mapping[str, Shard], source: Source, target: Placement) -> int:
    """Prepare, on each node's shard, the items it lacks under `target` and the end of those it
    should no longer hold; how many copies move. `source` shows what all shards hold now."""
    facts = source.facts(np.arange(len(source)))
    targets = target.targets(facts["hash"])
    moved = 0
    for node, shard in shards.items():
        index = target.members.index(node) if node in target.members else -1
        wanted = (targets == index).any(axis=1)
        rows = shard.table.live_rows()
        seqs = shard.table.facts["seq"][rows]
        lacking = np.flatnonzero(wanted & ~np.isin(source.seqs, seqs))
        _prepare_copies(shard, source, lacking)
        shard.prepare_end(rows[~np.isin(seqs, source.seqs[wanted])])
        moved += len(lacking)
    return moved


def _prepare_copies(shard: Shard, source: Source, indices: NDArray[np.int64]) -> None:
    step = max(1, _MOVE_BYTES // sum(column.nbytes for column in source.columns.values()))
    for at in range(0, len(indices), step):
        part = indices[at : at + step]
        # What has rotted in every copy moves as it is: its checksum goes with it, and tells.
        values, _ = source.checked(part)
        shard.prepare(source.facts(part), source.packed_keys(part), values, _NO_ROWS)
