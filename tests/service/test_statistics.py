"""Counters of calls: what one call adds, in which words failures are told, what quantiles say."""

from __future__ import annotations

import asyncio
import math
import timeit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async import errors
from aiaas_async.names import ModelRef
from aiaas_async.service.statistics import (
    LATENCIES_MS,
    REASONS,
    WINDOW,
    CallStatistics,
    VersionStatistics,
    reason_of,
)

MS = 1_000_000


def test_a_call_adds_its_items_its_times_and_its_share_of_a_batch() -> None:
    one = VersionStatistics()
    one.succeeded(2, 8, 10 * MS, 4 * MS, 3 * MS, 1 * MS)
    one.succeeded(6, 8, 10 * MS, 4 * MS, 3 * MS, 1 * MS)
    assert (one.successes, one.inferences, one.executions) == (2, 8, 1.0)
    assert one.success_ns == 20 * MS
    parts = (one.queue_ns, one.compute_input_ns, one.compute_infer_ns, one.compute_output_ns)
    assert parts == (8 * MS, 4 * MS, 6 * MS, 2 * MS)
    assert one.batches == {8: [1.0, 3 * MS]}


def test_an_answer_in_parts_counts_and_is_timed_as_a_whole_only() -> None:
    one = VersionStatistics()
    one.succeeded(1, 1, 10 * MS, 4 * MS, 3 * MS, 1 * MS)
    one.streamed(3, 2 * MS, 90 * MS)
    assert (one.success.count, one.success.ns) == (2, 100 * MS)
    assert (one.successes, one.inferences, one.executions) == (1, 4, 2)
    assert one.quantiles((1.0,))["request"] == pytest.approx([10_000])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.OverloadedError("full"), "REJECTED"),
        (errors.StoppingError("stopping"), "REJECTED"),
        (errors.DeadlineError("late"), "REJECTED"),
        (errors.QuarantinedError("kills"), "REJECTED"),
        (asyncio.CancelledError(), "CANCELED"),
        (GeneratorExit(), "CANCELED"),
        (errors.WorkerDiedError("died"), "BACKEND"),
        (errors.InputError("shape"), "OTHER"),
        (errors.CorruptError("files"), "OTHER"),
        (RuntimeError("a defect"), "OTHER"),
    ],
)
def test_a_failure_is_counted_under_the_reference_servers_reason(
    error: BaseException, reason: str
) -> None:
    one = VersionStatistics()
    one.failed(error, 5)
    assert one.reasons == {**dict.fromkeys(REASONS, 0), reason: 1}
    assert (one.fail.count, one.fail.ns, one.successes) == (1, 5, 0)


def test_every_error_of_the_tree_has_a_reason() -> None:
    assert {reason_of(cls("text")) for cls in errors.BY_CODE.values()} <= set(REASONS)


@given(st.lists(st.integers(0, 20_000 * MS), min_size=1, max_size=50))
def test_latencies_fall_under_the_smallest_bound_that_holds_them(totals: list[int]) -> None:
    one = VersionStatistics()
    for total in totals:
        one.succeeded(1, 1, total, 0, 0, 0)
    running = 0
    for bound, count in zip(LATENCIES_MS, one.latencies.counts, strict=False):
        running += count
        assert running == sum(total <= bound * MS for total in totals)
    assert one.latencies.count == len(totals)
    assert one.latencies.total == pytest.approx(sum(totals) / MS)


def test_quantiles_are_of_the_last_calls_only() -> None:
    one = VersionStatistics()
    assert all(math.isnan(value) for value in one.quantiles((0.5,))["request"])
    for _ in range(WINDOW):
        one.succeeded(1, 1, 900 * MS, 0, 0, 0)
    for number in range(1, WINDOW + 1):
        one.succeeded(1, 1, number * 1000, 0, number * 500, 0)
    found = one.quantiles((0.0, 0.5, 1.0))
    assert found["request"] == pytest.approx([1, (WINDOW + 1) / 2, WINDOW])
    assert found["compute_infer"] == pytest.approx([0.5, (WINDOW + 1) / 4, WINDOW / 2])
    assert found["queue"] == [0, 0, 0]


@pytest.mark.parametrize("calls", [1, 2, 7, WINDOW])
def test_quantiles_are_those_of_numpy_and_follow_each_call(calls: int) -> None:
    one, points = VersionStatistics(), (0.0, 0.5, 0.9, 0.999, 1.0)
    totals = np.random.default_rng(calls).integers(1, 10**9, calls).tolist()
    for called, total in enumerate(totals, start=1):
        one.succeeded(1, 1, total, 0, 0, 0)
        if called in (1, calls - 1, calls):
            expected = np.quantile(totals[:called], points) / 1000
            assert one.quantiles(points)["request"] == pytest.approx(expected, rel=1e-6)


def test_a_version_that_is_deleted_begins_anew() -> None:
    all_of_them, ref = CallStatistics(), ModelRef("m", "1.0")
    all_of_them.of(ref).failed(RuntimeError(), 1)
    assert all_of_them.seen(ref).fail.count == 1
    all_of_them.forget(ref)
    assert all_of_them.seen(ref).fail.count == 0
    assert list(all_of_them.items()) == []


def test_recording_a_call_is_cheap() -> None:
    """It takes 0.9 us; the bound leaves room for a busy machine and still forbids a sort, a
    lock or a text."""
    one, times = VersionStatistics(), (9 * MS, 1 * MS, 2 * MS, 3000)
    best = min(timeit.repeat(lambda: one.succeeded(2, 8, *times), number=2000, repeat=7)) / 2000
    assert best < 5e-6


def test_a_remembered_answer_is_a_success_and_no_inference() -> None:
    one = VersionStatistics()
    one.succeeded(3, 0, 2 * MS, 0, 0, 1 * MS)
    assert (one.success.count, one.inferences, one.executions) == (1, 0, 0.0)
    assert one.batches == {}
