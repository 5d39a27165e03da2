"""What is derived from each item's bytes: a checksum, and a key for those that bring none."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiaas_async.data.crctable import MAX_WIDTH, crc32_of_rows
from aiaas_async.data.journal import ROW
from aiaas_async.data.keys import Keys

Checksums = NDArray[np.uint32]
_KEY_DIGEST: Final = 16


def checksums(arrays: Mapping[str, NDArray[Any]]) -> Checksums:
    """CRC-32 of each row over its columns in the order of their names; arrays are [n, ...]."""
    columns = [arrays[name] for name in sorted(arrays)]
    if sum(map(_row_bytes, columns)) <= MAX_WIDTH:
        return crc32_of_rows(np.concatenate([_as_bytes(column) for column in columns], axis=1))
    found: list[int] = []
    for values in map(_each, columns):
        found = list(map(zlib.crc32, values, found)) if found else list(map(zlib.crc32, values))
    return np.array(found, np.uint32)


def default_keys(arrays: Mapping[str, NDArray[Any]]) -> Keys:
    """BLAKE2b-128 of each row over its columns in the order of their names, in hex.

    Equal items get equal keys, so sending an item twice stores it once.
    """
    first, *others = sorted(arrays)
    digests = [blake2b(value, digest_size=_KEY_DIGEST) for value in _each(arrays[first])]
    for name in others:
        for digest, value in zip(digests, _each(arrays[name]), strict=True):
            digest.update(value)
    text = b"".join([digest.digest() for digest in digests]).hex().encode()
    return Keys(text, np.full(len(digests), 2 * _KEY_DIGEST, np.uint32))


def last_of_each(keys: Keys, hashes: NDArray[np.uint64]) -> NDArray[np.int64] | None:
    """Where each key occurs last, ascending; None when no key repeats. `hashes` are the keys'."""
    ordered = np.sort(hashes)
    if (ordered[1:] != ordered[:-1]).all():
        return None
    last = {key: at for at, key in enumerate(keys)}  # two keys may share a hash
    if len(last) == len(keys):
        return None
    return np.array(sorted(last.values()), np.int64)


def table(first_seq: int, hashes: NDArray[np.uint64], crcs: Checksums) -> NDArray[Any]:
    """Rows for the journal, numbered from `first_seq` on."""
    rows = np.zeros(len(hashes), ROW)
    rows["hash"] = hashes
    return numbered(rows, first_seq, crcs)


def numbered(rows: NDArray[Any], first_seq: int, crcs: Checksums) -> NDArray[Any]:
    """`rows`, now of items that arrive from `first_seq` on."""
    rows["seq"] = np.arange(first_seq, first_seq + len(rows), dtype=np.uint64)
    rows["crc"] = crcs
    return rows


def _row_bytes(array: NDArray[Any]) -> int:
    return math.prod(array.shape[1:]) * array.itemsize


def _as_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).view(np.uint8).reshape(len(array), _row_bytes(array))


def _each(array: NDArray[Any]) -> Iterator[Any]:
    """Each row of a C-contiguous array, as something with its bytes."""
    # Rows of a matrix come faster than slices of a view (0.24 us against 0.31 with the checksum).
    return iter(array.reshape(len(array), -1) if len(array) else ())
