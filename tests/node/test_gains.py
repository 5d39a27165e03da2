"""More threads are used where they were measured to help."""

from __future__ import annotations

from aiaas_async.node.gains import Gains


def measured(plain_s: float, lent_s: float | None = None, rows: int = 1) -> Gains:
    gains = Gains()
    for _ in range(3):
        gains.record("m", rows, plain_s, lent=False)
        if lent_s is not None:
            gains.record("m", rows, lent_s, lent=True)
    return gains


def test_nothing_is_borrowed_before_it_is_known_how_long_a_batch_takes() -> None:
    gains = Gains()
    assert not gains.worth("m", 1)
    gains.record("m", 1, 0.1, lent=False)
    assert not gains.worth("m", 1)


def test_a_short_batch_borrows_nothing() -> None:
    assert not measured(0.0019).worth("m", 1)


def test_a_long_batch_tries_it() -> None:
    assert measured(0.020).worth("m", 1)


def test_what_is_faster_goes_on_and_what_is_not_stops() -> None:
    assert measured(0.020, 0.011).worth("m", 1)
    assert not measured(0.020, 0.0195).worth("m", 1)


def test_what_gained_goes_on_until_it_costs_time() -> None:
    gains = measured(0.020, 0.018)
    assert gains.worth("m", 1)
    for seconds, goes_on in ((0.0199, True), (0.0201, False), (0.0199, False), (0.018, True)):
        for _ in range(3):
            gains.record("m", 1, seconds, lent=True)
        assert gains.worth("m", 1) is goes_on


def test_now_and_then_one_shows_what_it_takes_without() -> None:
    gains = measured(0.010, 0.009)
    assert [at for at in range(1, 193) if not gains.worth("m", 1)] == [64, 128, 192]
    for _ in range(3):
        gains.record("m", 1, 0.008, lent=False)
    assert not gains.worth("m", 1)


def test_what_brought_nothing_is_tried_again_soon_and_then_ever_later() -> None:
    gains = measured(0.020, 0.030)
    tried = [at for at in range(1, 80) if gains.worth("m", 1)]
    assert tried == [4, 12, 28, 44, 60, 76]


def test_a_trial_that_was_disturbed_decides_nothing() -> None:
    gains = measured(0.020)
    for seconds in (0.050, 0.011, 0.040):
        gains.record("m", 1, seconds, lent=True)
    assert gains.worth("m", 1)


def test_batches_of_other_sizes_are_measured_apart() -> None:
    gains = measured(0.020, 0.011, rows=1)
    assert not gains.worth("m", 32)
    assert not gains.worth("n", 1)


def test_a_model_that_is_let_go_is_forgotten() -> None:
    gains = measured(0.020, 0.011)
    gains.forget("m")
    assert not gains.worth("m", 1)


def test_only_so_many_kinds_of_batches_are_remembered() -> None:
    gains = Gains()
    for number in range(5000):
        gains.record(f"m{number}", 1, 1.0, lent=False)
    assert "of 904 kinds" in repr(gains)
