"""What is remembered within a budget of bytes: against a model that keeps a plain list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.service.responses import ENTRY_BYTES, Responses

KEYS = st.integers(0, 7).map(lambda number: bytes([number]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("get"), KEYS, st.just(0)),
        st.tuples(st.just("put"), KEYS, st.integers(0, 3 * ENTRY_BYTES)),
    ),
    max_size=60,
)


@given(budget=st.integers(0, 8 * ENTRY_BYTES), steps=STEPS)
def test_the_most_recently_used_stay_within_the_budget(
    budget: int, steps: list[tuple[str, bytes, int]]
) -> None:
    kept: Responses[int] = Responses(budget)
    expected: list[tuple[bytes, int, int]] = []  # the oldest first: key, value, cost
    evictions = 0
    for number, (what, key, nbytes) in enumerate(steps):
        known = [each for each in expected if each[0] == key]
        if what == "get":
            assert kept.get(key) == (known[0][1] if known else None)
            expected = [each for each in expected if each[0] != key] + known
        else:
            cost = nbytes + ENTRY_BYTES
            assert kept.put(key, number, nbytes) == (cost <= budget) == kept.can_hold(nbytes)
            if cost <= budget:
                expected = [each for each in expected if each[0] != key]
                while sum(each[2] for each in expected) + cost > budget:
                    expected.pop(0)
                    evictions += 1
                expected.append((key, number, cost))
        held = kept.statistics()
        assert held.nbytes == sum(each[2] for each in expected) <= budget
        assert (held.entries, held.evictions) == (len(expected), evictions)


def test_what_was_asked_for_last_outlives_what_came_last() -> None:
    kept: Responses[str] = Responses(2 * ENTRY_BYTES)
    kept.put(b"a", "a", 0)
    kept.put(b"b", "b", 0)
    assert kept.get(b"a") == "a"
    kept.put(b"c", "c", 0)
    assert (kept.get(b"a"), kept.get(b"b"), kept.get(b"c")) == ("a", None, "c")


def test_an_answer_larger_than_the_budget_drives_no_other_out() -> None:
    kept: Responses[str] = Responses(2 * ENTRY_BYTES)
    kept.put(b"a", "a", 0)
    assert not kept.put(b"b", "b", 2 * ENTRY_BYTES)
    assert kept.get(b"a") == "a"
