"""What a row takes follows what was measured lately."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.schedule.rates import UNKNOWN_S, Rates


def test_what_was_never_measured_is_taken_for_short() -> None:
    rates = Rates()
    assert rates.row_s("m:1") is None
    assert rates.expected_s("m:1", 1000) == UNKNOWN_S


def test_expected_time_grows_with_the_rows() -> None:
    rates = Rates()
    rates.record("m:1", 10, 0.02)
    assert rates.expected_s("m:1", 30) == pytest.approx(0.06)


def test_nothing_is_settled_before_some_rows_were_measured() -> None:
    rates = Rates()
    rates.record("m:1", 1, 0.5)  # cold
    assert not rates.is_settled("m:1")
    for _ in range(8):
        rates.record("m:1", 4, 0.04)
    assert rates.is_settled("m:1")


def test_large_batches_count_for_more_than_small_ones() -> None:
    rates = Rates()
    rates.record("m:1", 1, 0.010)
    rates.record("m:1", 99, 0.099)
    assert rates.row_s("m:1") == pytest.approx(0.108 / 99.9)


def test_a_row_more_takes_what_larger_batches_took_more() -> None:
    rates = Rates()
    for rows in (1, 32, 1, 1, 32, 8):
        rates.record("m:1", rows, 0.009 + 0.001 * rows)
    assert rates.expected_s("m:1", 10) > 0.015
    assert rates.added_s("m:1", 10) == pytest.approx(0.010, rel=0.1)


def test_batches_that_are_alike_do_not_tell_what_a_row_more_takes() -> None:
    rates = Rates()
    for rows, seconds in ((8, 0.044), (9, 0.040), (10, 0.042), (9, 0.046)):
        rates.record("m:1", rows, seconds)
    assert rates.added_s("m:1", 1) == pytest.approx(rates.row_s("m:1"), rel=0.1)


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(1e-6, 10.0)), min_size=1, max_size=50))
def test_a_row_more_never_takes_longer_than_one_by_the_average_nor_nothing(
    batches: list[tuple[int, float]],
) -> None:
    rates = Rates()
    for rows, seconds in batches:
        rates.record("m:1", rows, seconds)
    average = rates.row_s("m:1")
    assert average is not None
    assert 0 < average / 17 < rates.added_s("m:1", 1) <= average


def test_a_change_of_speed_is_followed() -> None:
    rates = Rates()
    for _ in range(100):
        rates.record("m:1", 10, 0.01)
    for _ in range(40):
        rates.record("m:1", 10, 0.1)
    assert rates.row_s("m:1") == pytest.approx(0.01, rel=0.05)


def test_a_forgotten_model_is_unknown_again() -> None:
    rates = Rates()
    rates.record("m:1", 10, 0.01)
    rates.forget("m:1")
    assert rates.row_s("m:1") is None
