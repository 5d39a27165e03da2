"""Looking at processes from outside, for the tests of this folder."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from aiaas_async.compute.frames import whole
from aiaas_async.compute.jobs import Infer
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.compute.process import WorkerProcess
from tests.compute.asked import load_doubler
from tests.runtimes.artifacts import rows

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


async def ended(pidfd: int) -> None:
    """Wait for the end of the process that `pidfd` means."""
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pidfd, gone.set)
    async with asyncio.timeout(5):
        await gone.wait()
    loop.remove_reader(pidfd)
    os.close(pidfd)
