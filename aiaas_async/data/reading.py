"""What readers see of a data set: what was published last, as a whole."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiaas_async.data.keys import Keys
from aiaas_async.data.placement import Placement
from aiaas_async.data.reports import Page, balance
from aiaas_async.data.schema import DatasetSpec, encode_key
from aiaas_async.data.shard import Shard
from aiaas_async.data.source import Source, View
from aiaas_async.errors import CorruptError, InvalidError, NotFoundError
from aiaas_async.names import clip


class Readable:
    """A data set to those who read it: its shards, and where `placement` has each item. Who
    changes it holds `_publishing` while what they see changes. `removed`: whether it is deleted."""

    def __init__(self, spec: DatasetSpec, placement: Placement) -> None:
        self.spec = spec
        self.removed = False
        self._publishing = threading.Lock()
        self._placement = placement
        self._shards: dict[str, Shard] = {}
        self._source: Source | None = None
        self._astray = False  # whether items lie elsewhere than the placement has them

    def _check_there(self) -> None:
        if self.removed:
            raise NotFoundError(f"data set {self.spec.name} was deleted meanwhile")

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Of a deleted data set missing files are no damage. Raises `NotFoundError`."""
        try:
            yield
        except CorruptError:
            self._check_there()
            raise

    def get(self, key: str) -> dict[str, NDArray[Any]]:
        """The values of one item. Raises `NotFoundError`, `CorruptError`."""
        raw = Keys.of([encode_key(key)])
        hashes = self._placement.hashes(raw)
        damage: CorruptError | None = None
        with self._looking(), self._publishing:
            for shard in self._holders(hashes):
                try:
                    row = int(shard.find(hashes, raw)[0])
                    if row >= 0:
                        return shard.values(row)
                except CorruptError as error:  # another copy may be whole
                    damage = error
            if damage is not None:
                raise damage
        raise NotFoundError(f"data set {self.spec.name} has no item {clip(key)}")

    def _holders(self, hashes: NDArray[np.uint64]) -> Iterable[Shard]:
        """The shards that may have one item, its owner's first."""
        if self._astray:
            return self._shards.values()
        indices = self._placement.targets(hashes)[0].tolist()
        return [self._shards[self._placement.members[index]] for index in indices]

    def source(self) -> Source:
        """The items as they are now, for reading; later changes do not show in it. Raises
        `CorruptError`, and `NotFoundError` once it is deleted."""
        with self._looking(), self._publishing:
            if self._source is None:
                self._source = Source(self.spec.columns, [_view(s) for s in self._shards.values()])
            return self._source

    def range(self, start: int, stop: int) -> Page:
        """Items `start` to `stop` - 1 in the order of arrival; fewer where there are not so many.
        Numbers move when items before them are replaced or deleted; cursors do not. Raises
        `InvalidError`, and `CorruptError` naming an item of which no copy is whole."""
        if not 0 <= start <= stop:
            raise InvalidError(f"a range goes from 0 or more up to its end, got {start} to {stop}")
        return self._page(self.source(), start, stop)

    def page(self, after: int | None, limit: int) -> Page:
        """Up to `limit` items that arrived after cursor `after` (None: from the start). Raises
        what `range` does."""
        if limit < 1:
            raise InvalidError(f"limit must be 1 or more, got {limit}")
        source = self.source()
        start = int(np.searchsorted(source.seqs, max(after or 0, 0), "right"))
        return self._page(source, start, start + limit)

    def _page(self, source: Source, start: int, stop: int) -> Page:
        stop = min(stop, len(source))
        indices = np.arange(min(start, stop), stop)
        keys, (values, damaged) = source.keys(indices), source.checked(indices)
        if damaged:
            key = keys[damaged[0]]
            raise CorruptError(
                f"data set {self.spec.name}: the values of item {clip(key)} fail their checksum, "
                "and there is no other copy; put it again, delete it, or restore the data set's "
                "folder from a backup",
                {"key": key},
            )
        more = start < stop < len(source)
        return Page(keys, values, int(source.seqs[stop - 1]) if more else None)

    @property
    def count(self) -> int:
        """How many items there are; copies count once."""
        if self._astray:
            return len(self.source())
        with self._publishing:
            rows = sum(shard.table.live_count for shard in self._shards.values())
            return rows // self.copies

    @property
    def copies(self) -> int:
        """How many each item has: `spec.replication`, or one on each node where those are fewer."""
        return self._placement.copies

    def placement(self) -> dict[str, Any]:
        """Rows and bytes on each node, `balance` (the fullest node's rows over the mean), the
        bytes of all files, and those of rows that no longer count, which `compact` gives back."""
        with self._publishing:
            nodes = {
                node: {"rows": shard.table.live_count, "bytes": shard.nbytes}
                for node, shard in self._shards.items()
            }
            return {
                "nodes": nodes,
                "balance": balance([facts["rows"] for facts in nodes.values()]),
                "disk_bytes": self.disk_bytes,
                "reclaimable_bytes": self.reclaimable_bytes,
            }

    @property
    def disk_bytes(self) -> int:
        """Bytes of the files of all shards."""
        return sum(shard.disk_bytes for shard in self._shards.values())

    @property
    def value_bytes(self) -> int:
        """Bytes of the values that count, copies included."""
        return sum(shard.nbytes for shard in self._shards.values())

    @property
    def reclaimable_bytes(self) -> int:
        """Bytes of values that no longer count."""
        dead = sum(each.table.count - each.table.live_count for each in self._shards.values())
        return dead * self.spec.item_bytes

    def digest(self) -> str:
        """SHA-256 of the content in the order of arrival (`Source.digest`)."""
        return self.source().digest()

    def verify(self) -> None:
        """Check every byte. Raises `CorruptError` naming the shard and the block."""
        for shard in self._shards.values():
            shard.verify()

    def __repr__(self) -> str:
        return f"<Dataset {self.spec.name}: {self.count} items on {len(self._shards)} nodes>"


def _view(shard: Shard) -> View:
    table = shard.table
    return View(shard.folder, shard.blocks, table.facts, table.live_rows(), shard.lease)
