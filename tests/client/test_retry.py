"""When a client asks again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.client.retry import RetryBudget, RetryPolicy, is_refusal
from aiaas_async.errors import AiaasError, OverloadedError, QuotaError, WorkerDiedError

POLICY = RetryPolicy()
seconds = st.floats(0, 1e6)


@given(st.integers(0, 1000), seconds, seconds, st.floats(0, 1, exclude_max=True))
def test_a_pause_is_never_shorter_than_asked_nor_past_the_deadline(
    attempt: int, retry_after: float, remaining: float, draw: float
) -> None:
    wait = POLICY.pause(attempt, retry_after, remaining, draw)
    if wait is None:
        assert max(retry_after, POLICY.cap_s) * 1.25 >= remaining
    else:
        assert retry_after <= wait < remaining


def test_pauses_double_up_to_a_cap() -> None:
    waits = [POLICY.backoff(attempt, 0.0) for attempt in range(10)]
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == 10.0


def test_clients_refused_together_do_not_return_together() -> None:
    waits = {POLICY.pause(0, 1.0, 30.0, draw / 10) for draw in range(10)}
    assert len(waits) == 10


@given(st.lists(st.booleans(), min_size=1, max_size=2000))
def test_retries_add_at_most_a_tenth_of_what_succeeds_beyond_the_reserve(
    outcomes: list[bool],
) -> None:
    budget = RetryBudget(POLICY)
    retries = successes = 0
    for succeeded in outcomes:
        if succeeded:
            budget.earn()
            successes += 1
        else:
            retries += budget.spend()
    assert retries <= POLICY.reserve + successes * POLICY.share + 1e-6


@pytest.mark.parametrize(
    ("status", "error", "again"),
    [
        (503, OverloadedError("full", retry_after=1.0), True),
        (429, QuotaError("over", retry_after=0.0), True),
        (503, OverloadedError("full"), False),
        (507, OverloadedError("full", retry_after=1.0), False),
        (503, WorkerDiedError("twice", retry_after=1.0), False),
    ],
)
def test_only_a_refusal_that_says_when_is_asked_again(
    status: int, error: AiaasError, again: bool
) -> None:
    assert is_refusal(status, error) is again
