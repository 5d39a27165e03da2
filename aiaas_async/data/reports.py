"""What goes into a data set and comes out of it, beside the arrays themselves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray


class PutReport(msgspec.Struct, frozen=True):
    """`written` items are stored now; `replaced` of them had a predecessor under their key;
    `repeated` items of the call lost to a later one with the same key; `per_node` counts the
    copies each node took."""

    written: int
    replaced: int
    repeated: int
    per_node: dict[str, int]

    def plus(self, other: PutReport) -> PutReport:
        """What two calls did together."""
        nodes = Counter(self.per_node)
        nodes.update(other.per_node)
        return PutReport(
            self.written + other.written,
            self.replaced + other.replaced,
            self.repeated + other.repeated,
            dict(nodes),
        )


@dataclass(frozen=True, slots=True)
class Known:
    """What a caller knows of n items already: `rows` of `journal.ROW` are those of the same keys
    in another data set of the same library, and are given away; `checksums` uint32 come from
    whoever made the values. `new_at`: the keys are sound, no two alike, and none was here when
    the next item to arrive was that one."""

    rows: NDArray[Any]
    checksums: NDArray[np.uint32] | None = None
    new_at: int | None = None


class Page(msgspec.Struct, frozen=True):
    """Items in the order of arrival; `next` is the cursor to go on from, None at the end."""

    keys: list[str]
    columns: dict[str, NDArray[Any]]
    next: int | None


def balance(rows: list[int]) -> float:
    """The fullest node's rows over the mean of all."""
    return max(rows) * len(rows) / sum(rows) if any(rows) else 1.0
