"""One node's part of a data set: append-only column files, and a log that says what counts.

    c0.bin c1.bin …   the values of one column each, fixed-size records in C order, little-endian
    log               one record per block (`journal.py`)

The folder is made with the first block: a file or folder costs the disk's own bookkeeping half a
millisecond, and a data set may have many shards. A block is written in three steps: `prepare`
writes values and the log record, `sync` makes them durable, and `apply` lets readers see them, once
the data set has committed. What was never committed is cut off when the shard is opened, so a
change over many shards is all or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiaas_async.data import journal
from aiaas_async.data.files import Unsynced, cut, storage, sync_folder
from aiaas_async.data.index import Index
from aiaas_async.data.items import checksums
from aiaas_async.data.journal import Block, damaged
from aiaas_async.data.keys import Keys
from aiaas_async.data.lease import Lease
from aiaas_async.data.rows import RowTable
from aiaas_async.data.schema import Column
from aiaas_async.errors import CorruptError

_CHECK_BYTES: Final = 2**24  # values read at a time by `verify`
Arrays = Mapping[str, NDArray[Any]]


class Shard:
    """Opened for one writer; `columns` are in the order of the column files.

    `blocks` is how many are committed. Raises `CorruptError` naming shard and block when the log
    is damaged, a column file is too short, or the last block's values fail their checksums.
    """

    def __init__(self, folder: Path, columns: Mapping[str, Column], blocks: int) -> None:
        self.folder = folder
        self.columns = dict(columns)
        self.table = RowTable()
        self.blocks = 0
        self._index = Index(self.table)
        self._log_end = 0
        self._pending: list[Block] = []
        self._soiled = False
        self._unsynced = Unsynced()
        self.lease = Lease(folder)
        self._named = blocks > 0  # whether the names of the files are durable
        block = None
        for block in read_log(folder, blocks):
            self._admit(block)
        self._cut_to_committed()
        if block is not None:
            self._verify_block(block)

    def _admit(self, block: Block) -> None:
        self.table.add(block)
        self.table.end(block)
        self.blocks += 1
        self._log_end = block.end

    def _cut_to_committed(self) -> None:
        for name, path in self.files():
            needed = self.table.count * self.columns[name].nbytes
            size = path.stat().st_size if path.exists() else 0
            if size < needed:
                why = f"column {name} has {size} of {needed} bytes"
                raise damaged(self.name, self.blocks - 1, why)
            cut(path, needed)
        cut(self.folder / "log", self._log_end)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def nbytes(self) -> int:
        """Bytes of the values that count."""
        return self.table.live_count * sum(column.nbytes for column in self.columns.values())

    @property
    def disk_bytes(self) -> int:
        """Bytes of the files, rows that no longer count included."""
        size = sum(column.nbytes for column in self.columns.values())
        return self.table.count * size + self._log_end

    def prepare(
        self,
        rows: NDArray[Any],
        keys: Keys,
        arrays: Arrays,
        gone: NDArray[np.int64],
    ) -> None:
        """Write one block; it is durable after `sync`, and readers do not see it before `apply`.

        `rows` [n] of `journal.ROW`, `keys` n, `arrays` [n, *shape] for each column, `gone` the
        numbers of committed rows that end. Raises `StorageError`; then call `rollback`.
        """
        first, at = self._next()
        self._soiled = True  # until `apply`: a failure from here on leaves bytes behind
        if not self._named:
            with storage(self.folder):
                self.folder.mkdir(exist_ok=True, mode=0o700)
        if len(rows):
            for name, path in self.files():
                at_row = first * self.columns[name].nbytes
                self._unsynced.write_at(path, at_row, arrays[name].data)
        ended = np.asarray(gone, np.uint64)
        record = journal.encode(first, at, rows, ended, keys)
        self._unsynced.write_at(self.folder / "log", at, *record)
        end = at + sum(map(len, record))
        self._pending.append(Block(self.blocks_prepared, first, rows, ended, end))

    def sync(self) -> None:
        """Make what was prepared durable. Raises `StorageError`; then call `rollback`."""
        if not self._pending:
            return
        self._unsynced.sync()
        if not self._named:  # an empty shard that is lost is made again
            with storage(self.folder):
                sync_folder(self.folder)
                sync_folder(self.folder.parent)
            self._named = True

    def prepare_end(self, gone: NDArray[np.int64]) -> None:
        """Prepare the end of committed rows; nothing is written when there are none."""
        if len(gone):
            self.prepare(self.table.facts[:0], Keys.of([]), {}, gone)

    def _next(self) -> tuple[int, int]:
        """The next free row, and the next free offset of the log."""
        if not self._pending:
            return self.table.count, self._log_end
        last = self._pending[-1]
        return last.first + len(last.rows), last.end

    @property
    def blocks_prepared(self) -> int:
        """How many blocks there are once what was prepared is applied."""
        return self.blocks + len(self._pending)

    def apply(self) -> None:
        """Let readers see what was prepared."""
        for block in self._pending:
            self._admit(block)
        self._pending, self._soiled = [], False

    def rollback(self) -> None:
        """Forget what was prepared; the files are cut by `clean`, before the next change."""
        self._pending = []
        self._unsynced.forget()

    def clean(self) -> None:
        """Cut off what an undone change left in the files. Raises `StorageError`."""
        if self._soiled:
            self._cut_to_committed()
            self._soiled = False

    def find(self, hashes: NDArray[np.uint64], keys: Keys) -> NDArray[np.int64]:
        """The live row of each key, -1 where there is none. Raises `CorruptError`."""
        found = np.full(len(hashes), -1, np.int64)
        which, rows = self._index.candidates(hashes)
        kept = self.table.live[rows]
        if kept.any():
            asked = list(keys)
            path = self.folder / "log"
            with present(path), path.open("rb") as log:
                for at, row in zip(which[kept].tolist(), rows[kept].tolist(), strict=True):
                    fact = self.table.facts[row]
                    log.seek(int(fact["key_at"]))
                    if log.read(int(fact["key_len"])) == asked[at]:
                        found[at] = max(found[at], row)
        return found

    def values(self, row: int) -> dict[str, NDArray[Any]]:
        """The values of one row. Raises `CorruptError` when they fail their checksum."""
        arrays = self._read(row, 1)
        if checksums(arrays)[0] != self.table.facts["crc"][row]:
            raise damaged(self.name, self._block_of(row), f"row {row} fails its checksum")
        return {name: array[0] for name, array in arrays.items()}

    def verify(self) -> None:
        """Check every committed byte. Raises `CorruptError` naming the shard and the block."""
        for block in read_log(self.folder, self.blocks):
            self._verify_block(block)

    def _verify_block(self, block: Block) -> None:
        size = sum(column.nbytes for column in self.columns.values())
        step = max(1, _CHECK_BYTES // size)
        for at in range(0, len(block.rows), step):
            facts = block.rows[at : at + step]
            found = checksums(self._read(block.first + at, len(facts)))
            wrong = np.flatnonzero(found != facts["crc"])
            if len(wrong):
                row = block.first + at + int(wrong[0])
                raise damaged(self.name, block.number, f"row {row} fails its checksum")

    def _block_of(self, row: int) -> int:
        for block in read_log(self.folder, self.blocks):
            if block.first <= row < block.first + len(block.rows):
                return block.number
        return -1

    def _read(self, first: int, count: int) -> dict[str, NDArray[Any]]:
        arrays = {}
        for name, path in self.files():
            column = self.columns[name]
            with present(path), path.open("rb") as file:
                file.seek(first * column.nbytes)
                raw = file.read(count * column.nbytes)
            if len(raw) < count * column.nbytes:
                raise damaged(self.name, self._block_of(first), f"column {name} is cut short")
            arrays[name] = np.frombuffer(raw, column.numpy).reshape(count, *column.shape)
        return arrays

    def files(self) -> Iterator[tuple[str, Path]]:
        return ((name, self.folder / f"c{i}.bin") for i, name in enumerate(self.columns))

    def __repr__(self) -> str:
        return (
            f"<Shard {self.name}: {self.table.live_count} of {self.table.count} rows count, "
            f"{self.blocks} blocks, {len(self._pending)} prepared>"
        )


def read_log(folder: Path, blocks: int) -> Iterator[Block]:
    """The first `blocks` blocks of the log in `folder`. Raises `CorruptError`."""
    path = folder / "log"
    with present(path):
        raw = path.read_bytes() if blocks else b""
    return journal.read(memoryview(raw), blocks, folder.name)


@contextmanager
def present(path: Path) -> Iterator[None]:
    """A file of a shard that is not there is damage. Raises `CorruptError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise CorruptError(
            f"shard {path.parent.name} has no {path.name}: the data set was moved or deleted"
        ) from error
