"""The write-ahead log after a crash: telling damage from the end of what was written.

SQLite reads the log up to the first frame whose checksum is wrong and takes that for its end. That
is right for a transaction cut by a crash, which nobody was told of. But one transaction is made
durable before the next begins, so if whole transactions follow with yet more behind them, what
broke the chain is damage, and acknowledged changes are lost. (Of the last transaction alone
nobody can tell.) Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

_HEADER: Final = struct.Struct(">8I")  # magic, format, page size, sequence, 2 salts, 2 checksums
_FRAME: Final = struct.Struct(">6I")  # page, pages after the commit or 0, 2 salts, 2 checksums
_PAGE_SIZES: Final = frozenset(1 << n for n in range(9, 17))


@dataclass(frozen=True, slots=True)
class Log:
    """What the frames' headers claim, before any checksum is believed: the numbers, from 1, of
    the frames that end a transaction, and of the last frame."""

    header_is_sound: bool
    commits: tuple[int, ...]
    last: int

    def lost(self, valid: int) -> int:
        """How many acknowledged transactions lie beyond the `valid` frames that SQLite read."""
        if not self.header_is_sound:
            return len(self.commits)
        return sum(valid < commit < self.last for commit in self.commits)


def log_of(database: Path) -> Path:
    return database.with_name(database.name + "-wal")


def examine(database: Path) -> Log:
    """Read the headers of the log of `database`. Call it before the database is opened."""
    try:
        with log_of(database).open("rb") as file:
            return _examined(file)
    except FileNotFoundError:
        return Log(header_is_sound=True, commits=(), last=0)


def _examined(file: BinaryIO) -> Log:
    raw = file.read(_HEADER.size)
    if len(raw) < _HEADER.size:
        return Log(header_is_sound=True, commits=(), last=0)
    sound = _checksum(raw) == raw[24:]
    page, salts = _HEADER.unpack(raw)[2], raw[16:24]
    frames = _frames(file, page if sound and page in _PAGE_SIZES else 4096)
    if not sound and frames:
        salts = frames[0][8:16]
    ours = [number for number, frame in enumerate(frames, 1) if frame[8:16] == salts]
    commits = tuple(number for number in ours if _FRAME.unpack(frames[number - 1])[1])
    return Log(sound, commits, max(ours, default=0))


def _frames(file: BinaryIO, page: int) -> list[bytes]:
    """Every frame's header."""
    found = []
    while len(frame := file.read(_FRAME.size)) == _FRAME.size:
        found.append(frame)
        file.seek(page, 1)
    return found


def _checksum(header: bytes) -> bytes:
    """SQLite's checksum of the header's first 24 bytes, stored behind them."""
    order = ">" if header[3] & 1 else "<"
    words = struct.unpack(f"{order}6I", header[:24])
    one = two = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return struct.pack(">2I", one, two)
