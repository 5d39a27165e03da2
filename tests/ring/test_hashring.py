"""The ring moves little, balances well, and says why."""

import functools
from bisect import bisect_left
from collections import Counter
from itertools import islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.errors import ConflictError, InvalidError, NotFoundError
from aiaas_async.ring.hashring import Ring

SECRET = bytes(range(16))
NODES = [f"node-{i}" for i in range(8)]
KEYS = [f"user/{i}" for i in range(20_000)]

names = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6, unique=True)
keys = st.lists(st.text(max_size=12), max_size=60)


def imbalance(ring: Ring, of: list[str]) -> float:
    counts = Counter(ring.owner(key) for key in of)
    return max(counts.values()) * len(ring) / len(of)


@given(names, st.text(min_size=1, max_size=8), keys)
@settings(max_examples=60, deadline=None)
def test_a_join_moves_keys_only_to_the_joiner(members: list[str], new: str, of: list[str]) -> None:
    before = Ring([name for name in members if name != new], SECRET, 16)
    after = before.with_node(new)
    for key in of:
        assert after.owner(key) == new or after.owner(key) == before.owner(key)


@given(names, st.text(min_size=1, max_size=8), keys)
@settings(max_examples=60, deadline=None)
def test_a_leave_moves_only_the_leavers_keys(members: list[str], old: str, of: list[str]) -> None:
    before = Ring({*members, old, "stays"}, SECRET, 16)
    after = before.without_node(old) if old != "stays" else before
    for key in of:
        assert before.owner(key) == old or after.owner(key) == before.owner(key)


@given(names, st.randoms(use_true_random=False), keys)
@settings(max_examples=40, deadline=None)
def test_the_order_of_members_does_not_matter(
    members: list[str], chance: Random, of: list[str]
) -> None:
    other = list(members)
    chance.shuffle(other)
    a, b = Ring(members, SECRET, 16), Ring(other, SECRET, 16)
    assert [a.owners(key, 3) for key in of] == [b.owners(key, 3) for key in of]


@given(names, keys, st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_the_replica_table_agrees_with_owners(members: list[str], of: list[str], n: int) -> None:
    ring = Ring(members, SECRET, 16)
    table = ring.replica_table(n)
    for key in of:
        at = bisect_left(ring.positions, ring.position(key)) % len(table)
        assert tuple(ring.members[i] for i in table[at]) == ring.owners(key, n)


def test_keys_spread_evenly_with_the_default_points() -> None:
    assert imbalance(Ring(NODES, SECRET), KEYS) <= 1.25


def test_a_join_or_leave_moves_about_one_share() -> None:
    ring = Ring(NODES, SECRET)
    assert ring.moved(ring.with_node("node-8"), KEYS) <= 1.2 / 9
    assert ring.moved(ring.without_node("node-0"), KEYS) <= 1.2 / 8
    assert ring.moved(ring, []) == 0.0


SECRETS = st.binary(min_size=16, max_size=16)


@given(SECRETS, st.integers(2, 12))
@settings(max_examples=10, derandomize=True, deadline=None)
def test_under_any_secret_the_ring_is_even_and_moves_little(secret: bytes, count: int) -> None:
    ring, of = Ring([f"node-{i}" for i in range(count)], secret), KEYS[:10_000]
    assert imbalance(ring, of) <= 1.25
    assert ring.moved(ring.with_node("new"), of) <= 1.2 / (count + 1)
    assert ring.moved(ring.without_node("node-1"), of) <= 1.2 / count


@given(SECRETS)
@settings(max_examples=20, derandomize=True, deadline=None)
def test_names_that_hit_one_node_under_another_secret_spread_evenly(secret: bytes) -> None:
    assert imbalance(Ring(NODES, secret), hostile()) <= 1.3


@functools.cache
def hostile() -> list[str]:
    """Names that all belong to one node of a ring whose secret is known."""
    public = Ring(NODES, bytes(range(100, 116)))
    found = (key for key in (f"x{i}" for i in range(60_000)) if public.owner(key) == "node-3")
    names = list(islice(found, 5_000))
    assert len(names) == 5_000
    return names


def test_a_node_of_weight_two_takes_about_twice_the_keys() -> None:
    ring = Ring({"big": 2.0, "small": 1.0}, SECRET)
    share = Counter(ring.owner(key) for key in KEYS)["big"] / len(KEYS)
    assert 0.58 < share < 0.75


def test_owners_are_distinct_and_begin_with_the_owner() -> None:
    ring = Ring(NODES, SECRET)
    for key in KEYS[:200]:
        owners = ring.owners(key, 3)
        assert len(set(owners)) == 3
        assert owners[0] == ring.owner(key)
    assert set(ring.owners("k", 99)) == set(NODES)
    assert ring.owners("k", 0) == ()


def test_no_node_takes_more_than_its_bounded_load() -> None:
    ring = Ring(NODES, SECRET)
    loads = dict.fromkeys(NODES, 0)
    for _ in range(1_000):
        loads[ring.bounded_owner("one hot key", loads)] += 1
    assert max(loads.values()) <= -(-1.25 * 1_000 // 8)
    assert sum(loads.values()) == 1_000


def test_without_load_the_bounded_owner_is_the_owner() -> None:
    ring = Ring(NODES, SECRET)
    assert all(ring.bounded_owner(key, {}) == ring.owner(key) for key in KEYS[:200])


def test_a_full_owner_passes_the_key_to_the_next_clockwise() -> None:
    ring = Ring(NODES, SECRET)
    first, second = ring.owners("k", 2)
    assert ring.bounded_owner("k", {first: 10}) == second


def test_explain_tells_the_whole_decision() -> None:
    ring = Ring(NODES, SECRET)
    first, second = ring.owners("k", 2)
    why = ring.explain("k", {first: 10})
    assert why["hash"] == f"{ring.position('k'):016x}"
    assert (why["owner"], why["chosen"]) == (first, second)
    assert why["capacity"][first] == 2
    assert why["loads"][first] == 10
    assert why["if_left"][first] == ring.without_node(first).owner("k") == second
    assert why["if_left"][second] == first
    assert Ring(["only"], SECRET).explain("k")["if_left"] == {"only": None}


def test_the_repr_names_members_and_points() -> None:
    assert repr(Ring(["a"], SECRET)) == "<Ring of 1 nodes, 320 points: ('a',)>"
    assert "a" in Ring(["a"], SECRET)


def test_misuse_is_refused_with_the_reason() -> None:
    with pytest.raises(NotFoundError, match="no nodes"):
        Ring((), SECRET).owner("k")
    with pytest.raises(NotFoundError, match="not on the ring"):
        Ring(["a"], SECRET).without_node("b")
    with pytest.raises(ConflictError, match="already"):
        Ring(["a"], SECRET).with_node("a")
    with pytest.raises(InvalidError, match="16 bytes"):
        Ring(["a"], b"short")
    with pytest.raises(InvalidError, match="points_per_member"):
        Ring(["a"], SECRET, 0)
    with pytest.raises(InvalidError, match="weight"):
        Ring({"a": 0.0}, SECRET)
    with pytest.raises(InvalidError, match="greater than 1"):
        Ring(["a"], SECRET).bounded_owner("k", {}, 1.0)
