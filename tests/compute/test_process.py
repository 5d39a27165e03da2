"""Worker processes die alone, are replaced, and leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aiaas_async.compute.frames import MAX_DATAGRAM, whole
from aiaas_async.compute.jobs import ArtifactFiles, Infer, Load, Unload
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.compute.process import WorkerProcess
from aiaas_async.errors import MemoryBudgetError, TooLargeError, WorkerDiedError
from tests.compute.asked import LONG, load_doubler, train
from tests.runtimes.artifacts import BARE, rows

pytestmark = pytest.mark.real

SERVER = """
import asyncio, os, sys
from pathlib import Path
from aiaas_async.compute.pool import WorkerForks
from tests.compute.asked import LONG, train

async def main():
    forks = WorkerForks()
    idle, busy = await forks.spawn(), await forks.spawn()
    begun = asyncio.Event()
    busy.submit(train(Path(sys.argv[1]), **LONG), (), lambda _: begun.set())
    await begun.wait()
    print(idle.pid, busy.pid, forks._server._process.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def fork_server_of(forks: WorkerForks) -> int:
    assert forks._server is not None
    return forks._server._process.pid


def children_of(pid: int) -> set[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(each) for each in text.split()}


def names_in(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def start_server(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SERVER, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def works(worker: WorkerProcess) -> bool:
    await worker.submit(load_doubler())
    answer = await worker.submit(Infer("doubler", 2), whole({"x": rows(2)}))
    return bool(np.array_equal(answer.arrays["doubled"], 2 * rows(2)))


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
    await victim.wait_dead()
    assert await works(other)
    assert await works(await forks.spawn())


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


async def ended(pidfd: int) -> None:
    """Wait for the end of the process that `pidfd` means."""
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pidfd, gone.set)
    async with asyncio.timeout(5):
        await gone.wait()
    loop.remove_reader(pidfd)
    os.close(pidfd)


async def test_a_dead_fork_server_takes_its_workers_along_and_the_next_spawn_works(
    forks: WorkerForks,
) -> None:
    worker = await forks.spawn()
    hanging = worker.submit(load_doubler())
    await hanging
    before = fork_server_of(forks)
    os.kill(before, signal.SIGKILL)
    await worker.wait_dead()
    while True:  # the first try may still meet the dead one
        try:
            again = await forks.spawn()
        except WorkerDiedError:
            continue
        break
    assert fork_server_of(forks) != before
    assert await works(again)


async def test_spawns_under_way_fail_with_the_fork_server(forks: WorkerForks) -> None:
    await forks.spawn()
    os.kill(fork_server_of(forks), signal.SIGSTOP)
    spawns = [asyncio.ensure_future(forks.spawn()) for _ in range(3)]
    spawns[1].cancel()
    await asyncio.wait([spawns[1]])
    os.kill(fork_server_of(forks), signal.SIGKILL)
    for spawn in (spawns[0], spawns[2]):
        with pytest.raises(WorkerDiedError):
            await spawn
    assert await works(await forks.spawn())


async def test_a_cancelled_spawn_leaves_no_worker(forks: WorkerForks) -> None:
    kept = {(await forks.spawn()).pid}
    os.kill(fork_server_of(forks), signal.SIGSTOP)
    spawn = asyncio.ensure_future(forks.spawn())
    await asyncio.wait([spawn], timeout=0)
    spawn.cancel()
    os.kill(fork_server_of(forks), signal.SIGCONT)
    kept.add((await forks.spawn()).pid)
    for pid in children_of(fork_server_of(forks)) - kept:
        with contextlib.suppress(ProcessLookupError):  # reaped before we looked
            await ended(os.pidfd_open(pid))


async def test_the_dead_are_buried(forks: WorkerForks) -> None:
    worker = await forks.spawn()
    watched = os.pidfd_open(worker.pid)
    worker.kill()
    await ended(watched)
    for _ in range(2):  # the fork server looks after its children between two requests
        await forks.spawn()
    assert worker.pid not in children_of(fork_server_of(forks))


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


async def test_closing_ends_every_process(tmp_path: Path) -> None:
    forks = WorkerForks()
    idle, busy = await forks.spawn(), await forks.spawn()
    job = busy.submit(train(tmp_path, **LONG))
    watched = [os.pidfd_open(pid) for pid in (idle.pid, busy.pid)]
    await forks.close()
    for pidfd in watched:
        await ended(pidfd)
    with pytest.raises(WorkerDiedError):
        await job
    await idle.wait_dead()
    with pytest.raises(WorkerDiedError, match="the server stops"):
        await forks.spawn()


async def test_a_killed_server_leaves_no_process_behind(tmp_path: Path) -> None:
    server = start_server(tmp_path)
    assert server.stdout is not None
    with server, server.stdout as lines:
        line = await asyncio.to_thread(lines.readline)
        watched = [os.pidfd_open(int(pid)) for pid in line.split()]
        assert len(watched) == 3
        server.send_signal(signal.SIGKILL)
        for pidfd in watched:
            await ended(pidfd)


async def test_neither_shared_memory_nor_descriptors_are_left(forks: WorkerForks) -> None:
    shared = names_in("/dev/shm")
    assert await works(await forks.spawn())
    x = rows(20_000)
    before = None
    for _ in range(5):
        worker = await forks.spawn()
        await worker.submit(load_doubler())
        await worker.submit(Infer("doubler", len(x)), whole({"x": x}))
        assert names_in("/dev/shm") == shared
        os.kill(worker.pid, signal.SIGKILL)
        await worker.wait_dead()
        before = before or len(names_in("/proc/self/fd"))
        assert len(names_in("/proc/self/fd")) == before
    assert names_in("/dev/shm") == shared


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
