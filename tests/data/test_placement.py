"""Placing an array of keys agrees with asking the ring for each."""

import numpy as np
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


@pytest.mark.parametrize("nodes", [1, 3, 40])
def test_places_beside_the_rings_points_belong_where_a_search_says(nodes: int) -> None:
    placement = Placement(ring_of(nodes), 1)
    points = np.array(placement.ring.positions, np.uint64)
    one = np.uint64(1)
    edges = np.array([0, 2**63, 2**64 - 1, *(arc << 50 for arc in range(0, 2**14, 7))], np.uint64)
    hashes = np.concatenate((points, points - one, points + one, edges, edges - one))
    searched = np.searchsorted(points, hashes, "left") % len(points)
    owners = np.array(placement.ring.replica_table(1))[searched]
    assert placement.targets(hashes).tolist() == owners.tolist()


def test_the_fingerprint_tells_placements_apart() -> None:
    prints = {Placement(ring_of(n), r).fingerprint for n, r in ((2, 1), (3, 1), (3, 2), (3, 1))}
    assert len(prints) == 3
    assert Placement(ring_of(1), 1).fingerprint == Placement(ring_of(1), 2).fingerprint
