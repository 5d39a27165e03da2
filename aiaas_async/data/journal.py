"""A shard's log: one record per committed block, and a block counts only when its record is whole.

    header   magic, crc32 of the header, crc32 of the body, batch, first row, rows, gone, key bytes
    rows     one `ROW` each: sequence number, place on the ring, where its key is, crc32 of values
    gone     uint64 row numbers that ended with this block (superseded or deleted)
    keys     UTF-8, end to end

Everything is little-endian. A last record that is cut short, or has a stretch that was never
written, is what a crash leaves behind and is dropped. Any other wrong one is damage.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiaas_async.errors import CorruptError

ROW: Final = np.dtype(
    [
        ("seq", "<u8"),  # global order of arrival
        ("hash", "<u8"),  # place on the ring
        ("key_at", "<u8"),  # offset of the key in this log
        ("crc", "<u4"),  # over the row's values, columns in the order of their names
        ("key_len", "<u4"),
    ]
)
_HEADER: Final = struct.Struct("<4sIIIQQQQ")
_MAGIC: Final = b"blk1"
# No valid record holds so long a run of zeros: sequence numbers start at 1, keys are not empty.
_UNWRITTEN: Final = bytes(64)

Rows = NDArray[Any]
Numbers = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Block:
    """One committed block, read back. `end` is the offset in the log just after it."""

    number: int
    batch: int
    first: int
    rows: Rows
    gone: Numbers
    end: int


def encode(
    batch: int, first: int, at: int, rows: Rows, gone: Numbers, keys: Sequence[bytes]
) -> bytes:
    """The record to write at offset `at`; fills in where `rows` have their keys."""
    lengths = np.fromiter(map(len, keys), np.uint64, len(keys))
    keys_at = at + _HEADER.size + rows.nbytes + gone.nbytes
    rows["key_len"] = lengths
    rows["key_at"] = keys_at + np.cumsum(lengths) - lengths
    body = b"".join((rows.tobytes(), gone.astype("<u8").tobytes(), *keys))
    facts = (zlib.crc32(body), len(gone), batch, first, len(rows), int(lengths.sum()))
    unsigned = _HEADER.pack(_MAGIC, 0, *facts)
    return _HEADER.pack(_MAGIC, zlib.crc32(unsigned), *facts) + body


def read(log: memoryview, shard: str) -> Iterator[Block]:
    """The whole blocks of `log`, in order; ends before a torn tail.

    Raises `CorruptError` naming the shard and the block when a record is damaged.
    """
    at = number = rows = 0
    while len(log) - at >= _HEADER.size:
        head = log[at : at + _HEADER.size]
        _, _, crc, gone, batch, first, count, text = _HEADER.unpack(head)
        if not _header_is_sound(bytes(head)):
            if any(log[at:]):
                raise damaged(shard, number, "its log record has no valid header")
            return
        end = at + _HEADER.size + count * ROW.itemsize + gone * 8 + text
        body = log[at + _HEADER.size : end]
        if end > len(log) or (
            zlib.crc32(body) != crc and end == len(log) and _UNWRITTEN in bytes(body)
        ):
            return
        if zlib.crc32(body) != crc:
            raise damaged(shard, number, "its log record does not match its checksum")
        if first != rows:
            raise damaged(shard, number, f"it begins at row {first}, not at {rows}")
        table = np.frombuffer(body, ROW, count)
        ended = np.frombuffer(body, "<u8", gone, table.nbytes)
        yield Block(number, batch, first, table, ended, end)
        at, number, rows = end, number + 1, rows + count


def _header_is_sound(head: bytes) -> bool:
    magic, crc, *facts = _HEADER.unpack(head)
    return bool(magic == _MAGIC) and zlib.crc32(_HEADER.pack(_MAGIC, 0, *facts)) == crc


def damaged(shard: str, block: int, why: str) -> CorruptError:
    return CorruptError(
        f"shard {shard}, block {block} is damaged: {why}; restore the data set's folder from a "
        "backup, or delete the data set and upload it again",
        {"shard": shard, "block": block},
    )
