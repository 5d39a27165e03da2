"""A data set: key-value items, each on the nodes that the ring gives for its key.

Every change goes the same way: each shard concerned writes its block, all wait for the disk, one
commit makes them real, then readers see them. So a put over many shards, a delete and a move of
items between nodes are all or nothing, whatever moment the power fails.

File functions block; callers run them in threads. One change at a time; readers do not wait for
its writing. In memory an item costs 55 bytes and no Python object (measured with a million).
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from aiaas_async.data import layout as layouts
from aiaas_async.data.commit import CommitFile
from aiaas_async.data.compaction import prepare_copy
from aiaas_async.data.files import replace, storage, sync_folder
from aiaas_async.data.items import checksums, default_keys, last_of_each, numbered, table
from aiaas_async.data.keys import Keys, checked_keys
from aiaas_async.data.layout import Layout
from aiaas_async.data.move import prepare_move
from aiaas_async.data.placement import Placement, placed_by
from aiaas_async.data.put import Items, prepare_put
from aiaas_async.data.reading import Readable
from aiaas_async.data.reports import Known, PutReport
from aiaas_async.data.schema import Columns, DatasetSpec, checked_columns, encode_key
from aiaas_async.data.shard import Shard
from aiaas_async.errors import ConflictError, CorruptError, NotFoundError, StorageError
from aiaas_async.ring.hashring import Ring


class Dataset(Readable):
    """An open data set in `folder`. Use `create` once, `open` later.

    `open` finishes what a crash interrupted, moves items when the ring has changed, and makes
    new copies of those that `lost` shards held, where others have one left. Where the disk has no
    room for that (`unmoved` says why) items are read where they are, and move before any change.
    """

    def __init__(
        self, folder: Path, spec: DatasetSpec, layout: Layout, commits: CommitFile, ring: Ring
    ) -> None:
        super().__init__(spec, placed_by(_served(ring), spec.replication))
        self.folder = folder
        self._commits = commits
        self._changing = threading.RLock()
        self.lost: dict[str, CorruptError] = {}
        self._retired: dict[str, Shard] = {}
        self._doubtful = False  # whether the layout on the disk may be another than ours
        self.unmoved: StorageError | None = None
        self._sure_copies = 0  # that each item has at the least
        self._shards = self._open_shards(layout)
        self._astray = bool(self.lost) or self._placement.fingerprint != layout.fingerprint

    @classmethod
    def create(cls, folder: Path, spec: DatasetSpec, ring: Ring) -> Dataset:
        """A new, empty data set. Raises `ConflictError` when `folder` holds one already."""
        placement = placed_by(_served(ring), spec.replication)
        with storage(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (folder / "spec.json").exists():
            raise ConflictError(f"data set {spec.name} exists already")
        layout = layouts.of(placement, {})
        layout.begin(folder / "layout.json")
        commits = CommitFile(folder / "commit.bin", create=True)
        dataset = cls(folder, spec, layout, commits, ring)
        replace(folder / "spec.json", msgspec.json.encode(spec))  # makes all names durable
        with storage(folder):
            sync_folder(folder.parent)
        return dataset

    @classmethod
    def open(cls, folder: Path, ring: Ring) -> Dataset:
        """Raises `CorruptError` naming what is damaged, `ConflictError` when the ring has
        another secret than the one the items were placed by."""
        spec = layouts.load_spec(folder)
        layout = layouts.load(folder / "layout.json")
        if layout.probe != layouts.probe(ring):
            raise ConflictError(
                f"data set {spec.name} was placed under another secret: put the data directory's "
                "own secret back"
            )
        layouts.sweep(folder, layout)
        dataset = cls(folder, spec, layout, CommitFile(folder / "commit.bin"), ring)
        if dataset._astray:
            try:
                dataset.rebalance(ring)
            except StorageError as error:
                dataset.unmoved = error
        return dataset

    def put(
        self,
        keys: Sequence[str] | Keys | None,
        columns: Columns,
        known: Known | None = None,
    ) -> PutReport:
        """Store items: `columns` are arrays [n, *shape], `keys` n texts, or None for keys made
        of the items' content. The last of several items with one key wins.

        Durable when it returns. Raises `InputError`, `InvalidError`, `StorageError`.
        """
        arrays = checked_columns(self.spec, columns)
        given = len(next(iter(arrays.values())))
        new_at = known.new_at if known else None
        sound = new_at is not None and isinstance(keys, Keys)
        raw = default_keys(arrays) if keys is None else checked_keys(keys, given, sound=sound)
        if not given:
            return PutReport(0, 0, 0, {})
        hashes = known.rows["hash"] if known else self._placement.hashes(raw)
        crcs = known.checksums if known and known.checksums is not None else checksums(arrays)
        last = last_of_each(raw, hashes) if new_at is None else None
        if last is not None:
            raw, hashes, crcs, known = raw.take(last), hashes[last], crcs[last], None
            arrays = {name: array[last] for name, array in arrays.items()}
        with self._change(len(raw)):
            next_seq = self._commits.last.next_seq
            rows = numbered(known.rows, next_seq, crcs) if known else table(next_seq, hashes, crcs)
            items, new = Items(rows, raw, arrays), next_seq == new_at
            replaced, per_node = prepare_put(self._shards, self._placement, items, new=new)
        return PutReport(len(raw), replaced, given - len(raw), per_node)

    def delete(self, keys: Sequence[str]) -> int:
        """Remove the items with these keys, durably; how many there were."""
        raw = Keys.of(list(dict.fromkeys(map(encode_key, keys))))
        hashes = self._placement.hashes(raw)
        with self._changing:
            self._finish_move()
            found = {node: shard.find(hashes, raw) for node, shard in self._shards.items()}
            count = np.count_nonzero(np.max(list(found.values()), axis=0, initial=-1) >= 0)
            if count:
                with self._change(0):
                    for node, rows in found.items():
                        self._shards[node].prepare_end(rows[rows >= 0])
        return int(count)

    def remove(self, *, only_empty: bool = False) -> None:
        """Delete the data set with its files. What was about to change it raises `NotFoundError`:
        no item is acknowledged that goes with them.

        With `only_empty` raises `ConflictError` when there are items."""
        with self._changing:
            if only_empty and (count := self.count):
                raise ConflictError(f"data set {self.spec.name} is not empty: it has {count} items")
            self.removed = True
            try:
                layouts.remove(self.folder)
            finally:
                self.removed = not (self.folder / "spec.json").exists()

    @contextmanager
    def _change(self, items: int, placement: Placement | None = None) -> Iterator[None]:
        """One change: what the body prepares is committed and published, or undone.

        `items` new ones are numbered; a new `placement` holds from the commit on.
        """
        with self._changing:
            if placement is None:
                self._finish_move()
            for shard in self._shards.values():
                shard.clean()
            try:
                yield
                for shard in self._shards.values():
                    shard.sync()
                blocks = {shard.name: shard.blocks_prepared for shard in self._shards.values()}
                self._commits.write(self._commits.last.next_seq + items, blocks)
            except BaseException:
                for shard in self._shards.values():
                    shard.rollback()
                raise
            with self._publishing:
                for shard in self._shards.values():
                    shard.apply()
                if placement is not None:
                    self._placement, self._astray = placement, False
                    self._sure_copies = placement.copies
                self._source = None

    def _settle(self) -> None:
        """After a failed write, put what holds back in its place. Raises `StorageError`, and
        `NotFoundError` once it is deleted."""
        self._check_there()
        self._commits.settle()
        if self._doubtful:
            self._save_layout(self._placement)
            self._doubtful = False

    def _finish_move(self) -> None:
        """Make the move that `open` could not: who changes items looks for them where they belong.
        Raises `StorageError`, `NotFoundError`."""
        self._settle()
        if self._astray:
            self.rebalance(self._placement.ring)

    def rebalance(self, ring: Ring) -> int:
        """Follow the ring: move only the items whose nodes changed; how many copies moved.

        All or nothing; after a crash `open` finishes it. The folder of a node that left stays
        until the next `open`, so views that are in use stay readable.
        """
        target = placed_by(_served(ring), self.spec.replication)
        with self._changing:
            self._settle()
            for node in target.members:
                if node not in self._shards:
                    shard = self._retired.pop(node, None)
                    shard = shard or self._open_shard(layouts.shard_folder(node), 0)
                    self._shards = {**self._shards, node: shard}
            self._save_layout(target, moving=True)  # a node that is back keeps its folder
            with self._change(0, target):
                moved = prepare_move(self._shards, self.source(), target)
            with self._publishing:
                left = {n: s for n, s in self._shards.items() if n not in target.members}
                self._retired |= left
                self._shards = {node: self._shards[node] for node in target.members}
            self._save_layout(target)
        return moved

    def compact(self) -> int:
        """Write shards anew without the rows that no longer count; the bytes given back.

        Readers go on with what they have; changes wait. One shard after the other, each all or
        nothing: the new folder becomes the shard's when the layout is renamed into place.
        """
        with self._changing:
            self._finish_move()
            before = self.disk_bytes
            for node, shard in self._shards.items():
                if shard.table.live_count < shard.table.count:
                    shard.clean()
                    self._rewrite(node, shard)
            return before - self.disk_bytes

    def _rewrite(self, node: str, old: Shard) -> None:
        fresh = self._open_shard(layouts.next_folder(node), 0)
        shards = {**self._shards, node: fresh}
        try:
            prepare_copy(old, fresh)
            fresh.sync()
            # Both are named until the layout says which one counts.
            blocks = {each.name: each.blocks for each in self._shards.values()}
            blocks[fresh.name] = fresh.blocks_prepared
            self._commits.write(self._commits.last.next_seq, blocks)
        except BaseException:
            fresh.rollback()  # an open file keeps its space
            shutil.rmtree(fresh.folder, ignore_errors=True)
            raise
        self._doubtful = True  # a save that fails may have reached the disk all the same
        self._save_layout(self._placement, shards)
        self._doubtful = False
        with self._publishing:
            fresh.apply()
            self._shards, self._source = shards, None
        old.lease.end()

    def _save_layout(
        self,
        placement: Placement,
        shards: Mapping[str, Shard] | None = None,
        *,
        moving: bool = False,
    ) -> None:
        """While items are `moving` shards of nodes that leave count as well."""
        known = {node: shard.name for node, shard in (shards or self._shards).items()}
        sure = self._sure_copies
        layout = layouts.moving(placement, known, sure) if moving else layouts.of(placement, known)
        layout.save(self.folder / "layout.json")

    def _open_shards(self, layout: Layout) -> dict[str, Shard]:
        """The shards; an empty one for each that is lost, while every item has a copy left.

        Raises `CorruptError` naming the damage when more are lost than that."""
        shards: dict[str, Shard] = {}
        for node, name in layout.shards.items():
            try:
                shards[node] = self._open_shard(name, self._commits.last.blocks.get(name, 0))
            except CorruptError as error:
                self.lost[node] = error
        self._sure_copies = layout.copies_of(self.spec.replication) - len(self.lost)
        if self.lost and self._sure_copies < 1:
            raise next(iter(self.lost.values()))
        fresh = {node: self._open_shard(layouts.next_folder(node), 0) for node in self.lost}
        return {**shards, **fresh}

    def _open_shard(self, name: str, blocks: int) -> Shard:
        return Shard(self.folder / name, self.spec.columns, blocks)


def _served(ring: Ring) -> Ring:
    if not len(ring):
        raise NotFoundError("the ring has no nodes to hold a data set: add one first")
    return ring
