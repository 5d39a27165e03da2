"""Keys of many items as one text and its lengths: what a file holds, and the wire may bring.

A key as a Python object costs more than storing an item of 256 bytes does; so keys stay packed
from the wire to the log, and are cut apart where somebody looks at one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from mmap import mmap
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiaas_async.data.schema import MAX_KEY_BYTES, encode_key
from aiaas_async.errors import InvalidError
from aiaas_async.names import clip

_KEYS_A_RUN: Final = 4  # from which on runs that lie end to end are copied rather than bytes
_CONTINUATION: Final = 0x80  # of a character's bytes in UTF-8, all but the first are 10xxxxxx


class Keys:
    """n keys in UTF-8, end to end in `text`; `lengths` uint32 [n] are in bytes."""

    __slots__ = ("lengths", "text")

    def __init__(self, text: bytes | memoryview, lengths: NDArray[Any]) -> None:
        self.text = text
        self.lengths = np.asarray(lengths, np.uint32)

    @classmethod
    def of(cls, raw: Sequence[bytes]) -> Keys:
        """Keys that are sound already."""
        return cls(b"".join(raw), np.fromiter(map(len, raw), np.uint32, len(raw)))

    @classmethod
    def joined(cls, parts: Sequence[Keys]) -> Keys:
        """The keys of all `parts`, one after the other."""
        lengths = np.concatenate([np.empty(0, np.uint32), *(part.lengths for part in parts)])
        return cls(b"".join(part.text for part in parts), lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[bytes]:
        text, edges = bytes(self.text), accumulate(self.lengths.tolist(), initial=0)
        return (text[start:end] for start, end in pairwise(edges))

    def cut(self, start: int, stop: int) -> Keys:
        """Keys `start` to `stop` - 1."""
        before = int(self.lengths[:start].sum(dtype=np.uint64))
        lengths = self.lengths[start:stop]
        return Keys(self.text[before : before + int(lengths.sum(dtype=np.uint64))], lengths)

    def take(self, rows: NDArray[np.int64]) -> Keys:
        """The keys of `rows`."""
        starts = np.cumsum(self.lengths, dtype=np.int64) - self.lengths
        return gather(self.text, starts[rows], self.lengths[rows])

    def __repr__(self) -> str:
        return f"<{len(self)} keys of {len(self.text)} bytes>"


def gather(
    text: bytes | memoryview | mmap, starts: NDArray[np.int64], lengths: NDArray[np.uint32]
) -> Keys:
    """The keys that lie at `starts` of `text`."""
    if not len(starts):
        return Keys(b"", lengths)
    ends = starts + lengths
    gaps = np.flatnonzero(starts[1:] != ends[:-1])
    if len(gaps) <= len(starts) // _KEYS_A_RUN:
        firsts = starts[np.append(0, gaps + 1)].tolist()
        lasts = ends[np.append(gaps, len(ends) - 1)].tolist()
        runs = zip(firsts, lasts, strict=True)
        return Keys(b"".join([text[first:last] for first, last in runs]), lengths)
    # The place of every byte: within its key it follows the byte before.
    before = np.cumsum(lengths, dtype=np.int64) - lengths
    at = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(starts - before, lengths)
    return Keys(np.frombuffer(text, np.uint8)[at].tobytes(), lengths)


def checked_keys(keys: Sequence[str] | Keys, count: int, *, sound: bool = False) -> Keys:
    """The keys, sound. Raises `InvalidError` unless there are `count` of 1 to 256 bytes of UTF-8,
    naming the one at fault. Packed ones known to be `sound` are only counted."""
    if len(keys) != count:
        raise InvalidError(f"{len(keys)} keys for {count} items: give one key for each, or none")
    if isinstance(keys, Keys):
        if not sound:
            _check(keys)
        return keys
    try:
        found = Keys.of([key.encode() for key in keys])
    except (AttributeError, UnicodeEncodeError):
        found = None
    if found is None or not _lengths_fit(found):
        return Keys.of([encode_key(key) for key in keys])  # names the one at fault
    return found


def _lengths_fit(keys: Keys) -> bool:
    lengths = keys.lengths
    return not len(lengths) or (lengths.min() >= 1 and int(lengths.max()) <= MAX_KEY_BYTES)


def _check(keys: Keys) -> None:
    """Refuse packed keys that are empty, too long, not UTF-8 or not cut between characters."""
    given, expected = len(keys.text), int(keys.lengths.sum(dtype=np.uint64))
    if given != expected:
        raise InvalidError(f"the keys' lengths add up to {expected} bytes, their text has {given}")
    if not _lengths_fit(keys):
        wrong = (keys.lengths < 1) | (keys.lengths > MAX_KEY_BYTES)
        at = int(np.flatnonzero(wrong)[0])
        raise InvalidError(f"key {at} has {keys.lengths[at]} bytes; 1 to {MAX_KEY_BYTES} allowed")
    try:
        str(keys.text, "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidError(f"the keys are not UTF-8: {clip(error.reason)}") from error
    starts = np.cumsum(keys.lengths, dtype=np.int64) - keys.lengths
    first = np.frombuffer(keys.text, np.uint8)[starts]
    torn = np.flatnonzero(first & 0xC0 == _CONTINUATION)
    if len(torn):
        raise InvalidError(f"key {int(torn[0])} begins in the middle of a character")
