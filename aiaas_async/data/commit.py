"""Which batch was committed last: two slots written in turn, so one is always whole.

The write of a slot is the moment a batch over many shards becomes real.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from aiaas_async.data.files import write_at
from aiaas_async.errors import CorruptError

_SLOT: Final = struct.Struct("<QQI")
_SLOT_OFFSET: Final = 4096  # a torn write spoils one sector, never both slots


class Commit(NamedTuple):
    """`next_seq` is the sequence number of the next item; the first is 1."""

    batch: int = 0
    next_seq: int = 1


class CommitFile:
    """The file of the two slots; `last` is the newest commit. Raises `CorruptError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.last, self._slot = Commit(), 0
        raw = path.read_bytes() if path.exists() else b""
        slots = [_read(raw, at) for at in (0, _SLOT_OFFSET)]
        if raw and not any(slots):
            raise CorruptError("both commit slots of a data set are damaged: restore a backup")
        for index, commit in enumerate(slots):
            if commit is not None and commit >= self.last:
                self.last, self._slot = commit, 1 - index

    def write(self, commit: Commit) -> None:
        """Make `commit` the last one, durably. After `StorageError` the old one still holds,
        and the batch number must not be used again."""
        facts = _SLOT.pack(*commit, 0)[:-4]
        record = facts + zlib.crc32(facts).to_bytes(4, "little")
        write_at(self._path, record, self._slot * _SLOT_OFFSET)
        self.last, self._slot = commit, 1 - self._slot


def _read(raw: bytes, at: int) -> Commit | None:
    slot = raw[at : at + _SLOT.size]
    if len(slot) < _SLOT.size:
        return None
    batch, next_seq, crc = _SLOT.unpack(slot)
    return Commit(batch, next_seq) if zlib.crc32(slot[:-4]) == crc else None
