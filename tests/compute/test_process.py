"""A worker process dies alone, and no answer is lost on the line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from aiaas_async.compute.frames import MAX_DATAGRAM, whole
from aiaas_async.compute.jobs import ArtifactFiles, Infer, Load, Unload
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.errors import MemoryBudgetError, TooLargeError, WorkerDiedError
from tests.compute.asked import LONG, load_doubler, train
from tests.compute.processes import (
    ended,
    proc,
    works,
)
from tests.runtimes.artifacts import BARE, rows

pytestmark = pytest.mark.real


async def test_sigkill_in_a_job_fails_that_worker_s_jobs_and_no_others(
    forks: WorkerForks, tmp_path: Path
) -> None:
    victim, other = await forks.spawn(), await forks.spawn()
    begun = asyncio.Event()
    first = victim.submit(train(tmp_path, **LONG), (), lambda _: begun.set())
    second = victim.submit(load_doubler())
    await begun.wait()
    os.kill(victim.pid, signal.SIGKILL)
    for future, started in ((first, True), (second, False)):
        with pytest.raises(WorkerDiedError) as caught:
            await future
        assert caught.value.details == {"started": started}
    assert await victim.wait_dead() == "was killed by SIGKILL"
    assert await works(other)
    assert await works(await forks.spawn())


async def test_a_worker_that_was_asked_to_stop_ends_well(forks: WorkerForks) -> None:
    worker = await forks.spawn()
    worker.request_stop()
    assert await worker.wait_dead() == "ended with exit status 0"


async def test_a_stopped_worker_is_ended_by_kill(forks: WorkerForks) -> None:
    worker = await forks.spawn()
    os.kill(worker.pid, signal.SIGSTOP)
    hanging = worker.submit(load_doubler())
    watched = os.pidfd_open(worker.pid)
    worker.kill()
    with pytest.raises(WorkerDiedError):
        await hanging
    await ended(watched)
    worker.kill()


@pytest.mark.parametrize("reports", [1, 2, 5])
async def test_training_killed_at_any_moment_goes_on_to_the_same_bits(
    forks: WorkerForks, tmp_path: Path, reports: int
) -> None:
    plan = {"epochs": 8, "batch_size": 8, "optimizer": "adam", "checkpoint_every_steps": 4}
    unbroken = await forks.spawn()
    await unbroken.submit(train(tmp_path / "unbroken", **plan))
    killed, seen = await forks.spawn(), list[dict[str, object]]()

    def count(facts: dict[str, object]) -> None:
        seen.append(facts)
        if len(seen) == reports:
            os.kill(killed.pid, signal.SIGKILL)

    job = train(tmp_path / "killed", **plan)
    with contextlib.suppress(WorkerDiedError):  # it may be faster than the signal
        await killed.submit(job, (), count)
    again = await forks.spawn()
    await again.submit(job)
    files = [tmp_path / name / "job/result/weights.safetensors" for name in ("unbroken", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


async def test_a_model_too_large_for_the_limit_fails_and_the_worker_lives() -> None:
    forks = WorkerForks(memory_limit=1 << 30)
    worker = await forks.spawn()
    wide: list[dict[str, object]] = [{"name": "j", "op": "concatenate", "inputs": ["x"] * 2}]
    wide += [
        {"name": f"j{i}", "op": "concatenate", "inputs": [f"j{i - 1}" if i else "j"] * 2}
        for i in range(12)
    ]
    artifact = ArtifactFiles("numpy", {}, {**BARE, "layers": wide, "outputs": ["j11"]})
    await worker.submit(Load("wide", artifact))
    with pytest.raises(MemoryBudgetError, match="more memory than its worker may use"):
        await worker.submit(Infer("wide", 60_000), whole({"x": rows(60_000)}))
    assert await works(worker)
    await forks.close()


async def test_a_job_that_cannot_be_described_is_refused_at_once(forks: WorkerForks) -> None:
    worker = await forks.spawn()
    with pytest.raises(TooLargeError, match="the job's description takes"):
        worker.submit(Unload("m" * MAX_DATAGRAM))
    assert await works(worker)


async def test_a_worker_has_one_thread_and_the_niceness_it_was_given(forks: WorkerForks) -> None:
    worker = await forks.spawn(nice=7)
    assert await works(worker)
    status = proc(worker.pid, "status")
    assert "Threads:\t1\n" in status
    fields = proc(worker.pid, "stat").rpartition(")")[2].split()
    assert int(fields[16]) == 7


async def test_a_line_that_speaks_nonsense_ends_the_worker(forks: WorkerForks) -> None:
    worker = await forks.spawn()
    job = worker.submit(load_doubler())
    worker._under_way[0].number = 99  # as if the answer were to another job
    with pytest.raises(WorkerDiedError):
        await job
    assert not worker.alive


async def test_two_of_the_largest_datagrams_fit_the_line(forks: WorkerForks) -> None:
    worker = await forks.spawn()
    os.kill(worker.pid, signal.SIGSTOP)
    jobs = [worker.submit(Unload("m" * (MAX_DATAGRAM - 100))) for _ in range(2)]
    os.kill(worker.pid, signal.SIGCONT)
    for job in jobs:
        assert (await job).facts == {}
