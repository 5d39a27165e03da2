"""A task that fails is started again a few times, and then given up."""

from __future__ import annotations

import logging

import pytest

from aiaas_async.actors.supervisor import RestartIntensity, supervise


def test_failures_further_apart_than_the_window_are_forgiven() -> None:
    intensity = RestartIntensity(max_restarts=2, window_s=10)
    assert [intensity.record(t) for t in (0, 1, 12, 13, 14)] == [True, True, True, True, False]


async def test_a_task_that_fails_once_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("first time unlucky")

    given_up: list[BaseException] = []
    await supervise("node a", run, given_up.append)
    assert (runs, given_up) == (2, [])
    assert "node a failed and is restarted" in caplog.text


async def test_a_task_that_always_fails_is_given_up_loudly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        raise RuntimeError("always")

    given_up: list[BaseException] = []
    with caplog.at_level(logging.ERROR):
        await supervise("node a", run, given_up.append)
    assert [str(error) for error in given_up] == ["always"]
    assert "is given up" in caplog.text
