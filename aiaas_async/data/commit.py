"""What was committed last: two slots written in turn, so that one is always whole.

A commit says how many blocks of each shard count. Writing it is the moment a change over many
shards becomes real: blocks beyond it never happened, and a block it names that is missing or
wrong is damage.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final

import msgspec

from aiaas_async.data.files import write_at
from aiaas_async.errors import CorruptError, InvalidError, StorageError

_HEAD: Final = struct.Struct("<II")  # length and crc32 of the JSON that follows
_SLOT_BYTES: Final = 2**16


class Commit(msgspec.Struct, frozen=True, array_like=True):
    """`number` grows with each attempt; `next_seq` is the sequence number of the next item (the
    first is 1); `blocks` counts the blocks of each shard, by folder."""

    number: int = 0
    next_seq: int = 1
    blocks: dict[str, int] = {}


class CommitFile:
    """The file of the two slots; `last` is the newest commit, `create` makes the first one.

    Raises `CorruptError` when there is no whole commit.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self._path = path
        self._slot = 0
        self._tried = 0
        self._doubtful = False
        self.last = Commit()
        if create:
            self.write(1, {})
            return
        raw = path.read_bytes() if path.exists() else b""
        found = [(c.number, i, c) for i in (0, 1) if (c := _read(raw, i * _SLOT_BYTES))]
        if not found:
            raise CorruptError("a data set has lost its commit file: restore a backup")
        self._tried, index, self.last = max(found)
        self._slot = 1 - index

    def write(self, next_seq: int, blocks: dict[str, int]) -> None:
        """Make a new commit the last one, durably. Raises `StorageError`; then the old one
        holds, and `settle` must succeed before any block it does not name is cut off."""
        self._tried += 1
        commit = Commit(self._tried, next_seq, blocks)
        body = msgspec.json.encode(commit)
        if _HEAD.size + len(body) > _SLOT_BYTES:
            raise InvalidError(f"a data set cannot be spread over {len(blocks)} shards: too many")
        try:
            head = _HEAD.pack(len(body), zlib.crc32(body))
            write_at(self._path, head + body, self._slot * _SLOT_BYTES)
        except StorageError:
            self._doubtful = True  # it may have reached the disk all the same
            raise
        self.last, self._slot, self._doubtful = commit, 1 - self._slot, False

    def settle(self) -> None:
        """After a failed write, write the old commit again over it. Raises `StorageError`."""
        if self._doubtful:
            self.write(self.last.next_seq, self.last.blocks)


def _read(raw: bytes, at: int) -> Commit | None:
    if len(raw) < at + _HEAD.size:
        return None
    length, crc = _HEAD.unpack_from(raw, at)
    body = raw[at + _HEAD.size : at + _HEAD.size + length]
    if not body or len(body) != length or zlib.crc32(body) != crc:
        return None
    return msgspec.json.decode(body, type=Commit)
