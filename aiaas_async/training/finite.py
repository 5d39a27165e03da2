"""Whether what a training reads are numbers: looked at once, before its first step.

A NaN would only be told later, as a loss that diverged, which no learning rate mends; and an
infinity may not show in the loss at all. The look goes at the speed of memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiaas_async.data.source import Source
from aiaas_async.errors import InvalidError
from aiaas_async.names import clip
from aiaas_async.training.items import Indices, Wiring

_CHUNK_BYTES: Final = 4 << 20  # what fits a core's cache, and takes a millisecond or less


def check_finite(source: Source, wiring: Wiring, part: tuple[int, int] = (0, 1)) -> Iterator[None]:
    """Look at the columns that `wiring` names, or at one of several parts (number, of how many);
    yields now and then.

    Raises `InvalidError` naming the column, the first item of all, and how many there are.
    """
    number, parts = part
    used = dict.fromkeys([*wiring.inputs.values(), wiring.target])
    columns = [name for name in used if source.columns[name].numpy.kind == "f"]
    for indices in _chunks(source, columns)[number::parts]:
        for name, array in source.look(indices, columns).items():
            if not np.isfinite(array).all():
                yield from _tell(source, name)
        yield


def _chunks(source: Source, columns: Sequence[str]) -> list[Indices]:
    """All items, in runs that lie in one shard."""
    if not columns:
        return []
    nbytes = sum(source.columns[name].nbytes for name in columns)
    step = max(1, _CHUNK_BYTES // max(1, nbytes))
    shards = [extent.items for extent in source.extents().values()]
    return [items[at : at + step] for items in shards for at in range(0, len(items), step)]


def _tell(source: Source, name: str) -> Iterator[None]:
    """Look at all of column `name`, and raise what is wrong with it."""
    found: list[Indices] = []
    for indices in _chunks(source, [name]):
        found.append(indices[_not_finite(source.look(indices, [name])[name])])
        yield
    wrong = np.sort(np.concatenate(found))
    (key,) = source.keys(wrong[:1])
    several = "1 item" if len(wrong) == 1 else f"{len(wrong)} items"
    raise InvalidError(
        f"column {clip(name)} has values that are not finite (NaN or infinite) in {several}, "
        f"first in item {clip(key)}: replace or delete them, then train again",
        {"column": name, "first_key": key, "items": len(wrong)},
    )


def _not_finite(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Of each item [n, *shape], whether any of its values is not."""
    wrong: NDArray[np.bool_] = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    return wrong
