"""Which members hold which items: the ring's rule, applied to an array of hashes at once."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from aiaas_async.ring.hashring import Ring


class Placement:
    """`copies` members for each item: its owner first, then the next clockwise."""

    def __init__(self, ring: Ring, replication: int) -> None:
        self.ring = ring
        self.members = ring.members
        self.copies = min(replication, len(ring))
        self._positions = np.array(ring.positions, np.uint64)
        self._table = np.array(ring.replica_table(self.copies), np.int32)

    def hashes(self, keys: Iterable[bytes]) -> NDArray[np.uint64]:
        """Where each key (UTF-8) lies on the ring: uint64 [n]."""
        return np.frombuffer(self.ring.places(keys), "<u8").astype(np.uint64, copy=False)

    def targets(self, hashes: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Indices into `members`, [n, copies]; the owner stands in column 0."""
        points = np.searchsorted(self._positions, hashes, "left") % len(self._positions)
        return self._table[points]

    @property
    def fingerprint(self) -> str:
        """Equal for two rings exactly when they place every key alike."""
        text = f"{self.members} {self.copies}".encode()
        return sha256(text + self._positions.tobytes()).hexdigest()
