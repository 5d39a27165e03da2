"""A put: each item goes to the shards that hold it, and ends what was there under its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiaas_async.data.keys import Keys
from aiaas_async.data.placement import Placement
from aiaas_async.data.schema import Columns
from aiaas_async.data.shard import Shard

_NO_ROWS: Final = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Items:
    """n items with keys that differ: `rows` [n] of `journal.ROW`, `arrays` [n, *shape]."""

    rows: NDArray[Any]
    keys: Keys
    arrays: Columns


def prepare_put(
    shards: Mapping[str, Shard], placement: Placement, items: Items, *, new: bool
) -> tuple[int, dict[str, int]]:
    """Prepare the items on the shards of their nodes; how many had a predecessor, which `new`
    ones have not, and the copies per node."""
    replaced, per_node = 0, {}
    targets = placement.targets(items.rows["hash"])
    for index, node in enumerate(placement.members):
        mine = np.flatnonzero(targets == index)
        if placement.copies > 1:  # a member holds at most one of an item
            mine //= placement.copies
        if not len(mine):
            continue
        shard, own, gone = shards[node], _part(items, mine, placement.copies), _NO_ROWS
        if not new:
            found = shard.find(own.rows["hash"], own.keys)
            gone = found[found >= 0]
            replaced += int(np.count_nonzero(found[targets[mine, 0] == index] >= 0))
        shard.prepare(own.rows, own.keys, own.arrays, gone)
        per_node[node] = len(mine)
    return replaced, per_node


def _part(items: Items, mine: NDArray[np.int64], copies: int) -> Items:
    """Those of the items, with rows of their own: a shard notes in them where its log has the
    keys."""
    start, stop = int(mine[0]), int(mine[-1]) + 1
    if stop - start == len(mine):  # they lie in a row: nothing is picked one by one
        part: slice | NDArray[np.int64] = slice(start, stop)
        keys = items.keys.cut(start, stop)
    else:
        part, keys = mine, items.keys.take(mine)
    rows = items.rows[part]
    arrays = {name: array[part] for name, array in items.arrays.items()}
    return Items(rows if copies == 1 else rows.copy(), keys, arrays)
