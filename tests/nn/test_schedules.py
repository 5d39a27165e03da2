"""Schedules: bounded, as long as the run, and rising only while they warm up."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.nn.schedules import SCHEDULES, Constant, Cosine, Step

schedules = st.one_of(
    st.builds(Constant, warmup=st.integers(0, 20)),
    st.builds(Step, warmup=st.integers(0, 20), every=st.integers(1, 9), gamma=st.floats(0, 1)),
    st.builds(Cosine, warmup=st.integers(0, 20), floor=st.floats(0, 1)),
)


@given(schedules, st.integers(1, 60))
def test_factors_rise_through_the_warmup_to_one_and_never_again(
    schedule: Constant, total: int
) -> None:
    factors = [schedule.factor(step, total) for step in range(total)]
    assert all(0.0 <= factor <= 1.0 for factor in factors)
    rising, after = factors[: schedule.warmup], factors[schedule.warmup :]
    assert rising == sorted(rising)
    assert after == sorted(after, reverse=True)
    assert after[:1] in ([], [1.0])


def test_a_warmup_ends_at_the_full_rate() -> None:
    schedule = Constant(warmup=4)
    assert [schedule.factor(step, 6) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_steps_multiply_by_gamma() -> None:
    schedule = Step(every=2, gamma=0.5, warmup=1)
    assert [schedule.factor(step, 7) for step in range(7)] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]


def test_a_cosine_ends_at_its_floor_and_stays_there() -> None:
    schedule = Cosine(floor=0.1, warmup=3)
    assert schedule.factor(3, 20) == 1.0
    assert schedule.factor(19, 20) == pytest.approx(0.1)
    assert schedule.factor(25, 20) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("constant", {"warmup": -1}),
        ("step", {}),
        ("step", {"every": 0}),
        ("step", {"every": 2, "gamma": 1.5}),
        ("cosine", {"floor": -0.1}),
        ("cosine", {"every": 2}),
    ],
)
def test_options_that_make_no_sense_are_refused(name: str, options: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, SCHEDULES[name])
