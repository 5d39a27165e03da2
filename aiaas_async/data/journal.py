"""A shard's log: one record per block; the data set's commit says how many records count.

    header   magic, crc32 of the header, crc32 of the body, first row, rows, gone, key bytes
    rows     one `ROW` each: sequence number, place on the ring, where its key is, crc32 of values
    gone     uint64 row numbers that ended with this block (superseded or deleted)
    keys     UTF-8, end to end

Everything is little-endian.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiaas_async.data.keys import Keys
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
_HEADER: Final = struct.Struct("<4sIIIQQQ")
_MAGIC: Final = b"blk1"

Rows = NDArray[Any]
Numbers = NDArray[np.uint64]
Piece = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Block:
    """One block. `end` is the offset in the log just after it."""

    number: int
    first: int
    rows: Rows
    gone: Numbers
    end: int


def joined(parts: Sequence[Rows]) -> Rows:
    """Copies of several rows, one after the other. As bytes: numpy would copy them field by field,
    in three times the time."""
    return np.concatenate([part.view(np.uint8) for part in parts]).view(ROW)


def encode(first: int, at: int, rows: Rows, gone: Numbers, keys: Keys) -> list[Piece]:
    """The record to write at offset `at`, in pieces; fills in where `rows` have their keys."""
    lengths = keys.lengths
    keys_at = at + _HEADER.size + rows.nbytes + gone.nbytes
    rows["key_len"] = lengths
    rows["key_at"] = keys_at + np.cumsum(lengths, dtype=np.uint64) - lengths
    body: list[Piece] = [rows.view(np.uint8).data, gone.astype("<u8").tobytes(), keys.text]
    crc = 0
    for piece in body:
        crc = zlib.crc32(piece, crc)
    facts = (crc, len(gone), first, len(rows), len(keys.text))
    unsigned = _HEADER.pack(_MAGIC, 0, *facts)
    return [_HEADER.pack(_MAGIC, zlib.crc32(unsigned), *facts), *body]


def read(log: memoryview, blocks: int, shard: str) -> Iterator[Block]:
    """The first `blocks` blocks of `log`, in order.

    Raises `CorruptError` naming the shard and the block when one is missing or wrong.
    """
    at = rows = 0
    for number in range(blocks):
        block = _block(log, at, number, shard)
        if block.first != rows:
            raise damaged(shard, number, f"it begins at row {block.first}, not at {rows}")
        yield block
        at, rows = block.end, rows + len(block.rows)


def _block(log: memoryview, at: int, number: int, shard: str) -> Block:
    head = log[at : at + _HEADER.size]
    if len(head) < _HEADER.size or not _header_is_sound(bytes(head)):
        raise damaged(shard, number, "its log record is missing or has no valid header")
    _, _, crc, gone, first, count, text = _HEADER.unpack(head)
    end = at + _HEADER.size + count * ROW.itemsize + gone * 8 + text
    body = log[at + _HEADER.size : end]
    if end > len(log) or zlib.crc32(body) != crc:
        raise damaged(shard, number, "its log record does not match its checksum")
    rows = np.frombuffer(body, ROW, count)
    return Block(number, first, rows, np.frombuffer(body, "<u8", gone, rows.nbytes), end)


def _header_is_sound(head: bytes) -> bool:
    magic, crc, *facts = _HEADER.unpack(head)
    return bool(magic == _MAGIC) and zlib.crc32(_HEADER.pack(_MAGIC, 0, *facts)) == crc


def damaged(shard: str, block: int, why: str) -> CorruptError:
    return CorruptError(
        f"shard {shard}, block {block} is damaged: {why}; restore the data set's folder from a "
        "backup, or delete the data set and upload it again",
        {"shard": shard, "block": block},
    )
