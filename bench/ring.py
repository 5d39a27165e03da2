"""The ring's figures: balance, movement, and the cost of a look-up."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Mapping
from timeit import repeat

from aiaas_async.ring.hashring import POINTS_PER_MEMBER, Ring

NODES = [f"node-{i}" for i in range(8)]
KEYS = [f"user/{i}" for i in range(20_000)]


def imbalances(points: int, secrets: int, members: int = 8) -> list[float]:
    """Heaviest share of the ring over the mean share, exactly, for each of `secrets` secrets."""
    source = random.Random(1)
    found = []
    for _ in range(secrets):
        ring = Ring([f"node-{i}" for i in range(members)], source.randbytes(16), points)
        arcs: Counter[int] = Counter()
        table = ring.replica_table(1)
        for i, here in enumerate(ring.positions):
            arcs[table[i][0]] += (here - ring.positions[i - 1]) % 2**64
        found.append(max(arcs.values()) * members / 2**64)
    return sorted(found)


def time_call(call: str, names: Mapping[str, object], number: int = 20_000) -> float:
    """Best of five, in microseconds a call."""
    return min(repeat(call, globals=dict(names), number=number, repeat=5)) / number * 1e6


def time_owner() -> float:
    return time_call("owner('user/123456')", {"owner": Ring(NODES, bytes(16)).owner})


def time_bounded_owner() -> float:
    names = {"f": Ring(NODES, bytes(16)).bounded_owner, "loads": dict.fromkeys(NODES, 3)}
    return time_call("f('user/123456', loads)", names)


def time_hash_alone() -> float:
    """The floor: one keyed BLAKE2b of a short key."""
    setup = {"position": Ring(NODES, bytes(16)).position}
    return time_call("position('user/123456')", setup)


def time_with_node() -> float:
    return time_call("ring.with_node('new')", {"ring": Ring(NODES, bytes(16))}, 20)


def main() -> None:
    floor = time_hash_alone()
    for name, cost in (
        ("keyed hash alone (floor)", floor),
        ("owner", time_owner()),
        ("bounded_owner", time_bounded_owner()),
        ("with_node", time_with_node()),
    ):
        print(f"{name:<28}{cost:10.2f} µs   {cost / floor:8.2f} x floor")
    print("\npoints a member   max/mean of shares, 8 members: median, 98th percentile, worst")
    for points in (40, 80, 160, POINTS_PER_MEMBER, 640):
        found = imbalances(points, 200)
        print(f"{points:>8}{statistics.median(found):>16.3f}{found[196]:>10.3f}{found[-1]:>10.3f}")
    ring = Ring(NODES, bytes(16))
    print(f"\nmoved by a join, x K/N: {ring.moved(ring.with_node('new'), KEYS) * 9:.3f}")
    print(f"moved by a leave, x K/N: {ring.moved(ring.without_node('node-0'), KEYS) * 8:.3f}")


if __name__ == "__main__":
    main()
