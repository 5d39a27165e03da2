"""The fork server: its workers go when it goes, it is replaced, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from aiaas_async.compute.frames import whole
from aiaas_async.compute.jobs import Infer
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.errors import WorkerDiedError
from tests.compute.asked import LONG, load_doubler, train
from tests.compute.processes import (
    children_of,
    ended,
    fork_server_of,
    names_in,
    start_server,
    works,
)
from tests.runtimes.artifacts import rows

pytestmark = pytest.mark.real


async def test_a_dead_fork_server_takes_its_workers_along_and_the_next_spawn_works(
    forks: WorkerForks,
) -> None:
    worker = await forks.spawn()
    hanging = worker.submit(load_doubler())
    await hanging
    before = fork_server_of(forks)
    os.kill(before, signal.SIGKILL)
    assert await worker.wait_dead() == "died with the process that starts workers"
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
    zeroth = await forks.spawn()
    counts = [len(names_in("/proc/self/fd"))]
    first = await forks.spawn()
    counts.append(len(names_in("/proc/self/fd")))
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    os.kill(fork_server_of(forks), signal.SIGSTOP)
    spawn = asyncio.ensure_future(forks.spawn())
    await asyncio.wait([spawn], timeout=0)
    spawn.cancel()
    os.kill(fork_server_of(forks), signal.SIGCONT)
    second = await forks.spawn()
    counts.append(len(names_in("/proc/self/fd")))
    assert complaints == []
    assert counts[2] - counts[1] == counts[1] - counts[0]
    for pid in children_of(fork_server_of(forks)) - {zeroth.pid, first.pid, second.pid}:
        with contextlib.suppress(ProcessLookupError):  # reaped before we looked
            await ended(os.pidfd_open(pid))


async def test_the_dead_are_buried(forks: WorkerForks) -> None:
    worker = await forks.spawn()
    watched = os.pidfd_open(worker.pid)
    worker.kill()
    await ended(watched)
    for _ in range(3):  # it looks after its children between one answer and the next but one
        await forks.spawn()
    assert worker.pid not in children_of(fork_server_of(forks))


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
    shared = segments()
    assert await works(await forks.spawn())
    x = rows(20_000)
    before = None
    for _ in range(5):
        worker = await forks.spawn()
        await worker.submit(load_doubler())
        await worker.submit(Infer("doubler", len(x)), whole({"x": x}))
        assert segments() == shared
        os.kill(worker.pid, signal.SIGKILL)
        await worker.wait_dead()
        before = before or len(names_in("/proc/self/fd"))
        assert len(names_in("/proc/self/fd")) == before
    assert segments() == shared


def segments() -> list[str]:
    """What lies in the folder of named shared memory; folders are those of other tests."""
    return sorted(each.name for each in Path("/dev/shm").iterdir() if each.is_file())
