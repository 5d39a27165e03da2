"""Which members hold which items: the ring's rule, applied to an array of hashes at once.

The ring is cut into equal arcs: most have no point within, so that where their keys go is known
without a search (33,000 keys: 0.3 ms, searched 1.5).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aiaas_async.ring.hashring import Ring

_ARC_BITS: Final = 14  # of 640 points each lies in an arc with no other, most of the time
_ARC_SHIFT: Final = np.uint64(64 - _ARC_BITS)
_UNCLEAR: Final = -1  # of an arc with a point within


class Placement:
    """`copies` members for each item: its owner first, then the next clockwise.

    Data sets share one for each ring and number of copies: `placed_by`."""

    def __init__(self, ring: Ring, replication: int) -> None:
        self.ring = ring
        self.members = ring.members
        self.copies = min(replication, len(ring))
        self._positions = np.array(ring.positions, np.uint64)
        # Once more the first point's: keys behind the last point are its own.
        table = ring.replica_table(self.copies)
        self._table = np.array([*table, table[0]], np.int32)
        starts = np.arange(2**_ARC_BITS, dtype=np.uint64) << _ARC_SHIFT
        first = np.searchsorted(self._positions, starts, "left")
        self._by_arc = self._table[first]
        self._by_arc[np.diff(first, append=len(self._positions)) > 0] = _UNCLEAR

    def hashes(self, keys: Iterable[bytes]) -> NDArray[np.uint64]:
        """Where each key (UTF-8) lies on the ring: uint64 [n]."""
        return np.frombuffer(self.ring.places(keys), "<u8").astype(np.uint64, copy=False)

    def targets(self, hashes: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Indices into `members`, [n, copies]; the owner stands in column 0."""
        arcs = (hashes >> _ARC_SHIFT).view(np.int64)  # signed, as numpy's indices are
        found: NDArray[np.int32] = self._by_arc.take(arcs, axis=0)
        unclear = np.flatnonzero(found[:, 0] == _UNCLEAR)
        points = np.searchsorted(self._positions, hashes[unclear], "left")
        found[unclear] = self._table[points]
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Equal for two rings exactly when they place every key alike."""
        text = f"{self.members} {self.copies}".encode()
        return sha256(text + self._positions.tobytes()).hexdigest()


@lru_cache(maxsize=8)  # all data sets of a server go by one ring, or by two while items move
def placed_by(ring: Ring, replication: int) -> Placement:
    """The placement by `ring`; made once."""
    return Placement(ring, replication)
