"""What a row takes follows what was measured lately."""

from __future__ import annotations

import pytest

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
