"""A version that keeps killing its worker is refused for a while."""

from __future__ import annotations

import pytest

from aiaas_async.errors import QuarantinedError
from aiaas_async.node.quarantine import Quarantine


def test_three_deaths_in_a_minute_quarantine_a_version_for_a_minute() -> None:
    quarantine = Quarantine()
    for at in (0.0, 20.0, 40.0):
        quarantine.check("m:1", at)
        quarantine.record("m:1", at)
    with pytest.raises(QuarantinedError) as caught:
        quarantine.check("m:1", 50.0)
    assert caught.value.retry_after == pytest.approx(50.0)
    quarantine.check("m:1", 100.0)


def test_deaths_further_apart_are_forgiven() -> None:
    quarantine = Quarantine()
    for at in (0.0, 40.0, 80.0):
        quarantine.record("m:1", at)
    quarantine.check("m:1", 81.0)


def test_other_versions_are_not_touched() -> None:
    quarantine = Quarantine()
    for _ in range(3):
        quarantine.record("m:1", 0.0)
    quarantine.check("m:2", 1.0)


def test_deaths_of_versions_that_nobody_asks_for_again_are_forgotten() -> None:
    quarantine = Quarantine()
    for number in range(1000):
        quarantine.record(f"m:{number}", float(number))
    assert len(quarantine._deaths) <= 60


def test_what_is_held_is_told_by_version_whole_or_in_pieces() -> None:
    quarantine = Quarantine()
    for at in (0.0, 1.0, 2.0):
        quarantine.record("m:1#a.0", at)
        quarantine.record("m:2", at)
    quarantine.record("m:3", 2.0)
    assert quarantine.held(12.0) == {"m:1": 50.0, "m:2": 50.0}
    quarantine.forget("m:1")
    assert quarantine.held(12.0) == {"m:2": 50.0}
    assert quarantine.held(62.0) == {}
