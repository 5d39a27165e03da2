"""Placing an array of keys agrees with asking the ring for each."""

import pytest

from aiaas_async.data.placement import Placement
from tests.data.build import ring_of

KEYS = [f"k{i}" for i in range(300)]


@pytest.mark.parametrize(("nodes", "replication"), [(1, 1), (3, 1), (5, 2), (2, 4)])
def test_targets_are_the_rings_owners(nodes: int, replication: int) -> None:
    ring = ring_of(nodes)
    placement = Placement(ring, replication)
    targets = placement.targets(placement.hashes([key.encode() for key in KEYS]))
    names = [tuple(ring.members[i] for i in row) for row in targets.tolist()]
    assert names == [ring.owners(key, replication) for key in KEYS]


def test_the_fingerprint_tells_placements_apart() -> None:
    prints = {Placement(ring_of(n), r).fingerprint for n, r in ((2, 1), (3, 1), (3, 2), (3, 1))}
    assert len(prints) == 3
    assert Placement(ring_of(1), 1).fingerprint == Placement(ring_of(1), 2).fingerprint
