"""Measuring: every contender answers rightly first, then all take turns under the same load."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.peers import contenders, environments, processes, works
from bench.peers.contenders import Running, Setting
from bench.peers.readings import Measured
from bench.peers.works import Work
from bench.serving import drive

_TOLERANCE = 1e-4
_SETTLING_S = 60
WARM_UP_S = 1


class Field:
    """The servers that came up, held still; and the settings that answered each work rightly."""

    def __init__(self, environments_folder: Path, folder: Path, measured: Measured) -> None:
        self._environments, self._folder = environments_folder, folder
        self._measured = measured
        self.servers: dict[str, Running] = {}
        self.right: dict[str, list[Setting]] = {}

    def start(self, settings: list[Setting], asked: list[Work]) -> None:
        """Start what `settings` need and check each for the works `asked`."""
        for setting in settings:
            if setting.server not in self.servers and not self._started(setting):
                continue
            running = self.servers[setting.server]
            processes.release(running.process.pid)
            for work in filter(setting.works, asked):
                wrong = self._wrong(running, setting, work)
                if wrong is None:
                    self.right.setdefault(work.name, []).append(setting)
                else:
                    self._measured.said.append(f"{setting.name}, {work.name}: {wrong}")
            self._measured.memory[setting.server] = processes.memory_mb(running.process.pid)
            _rest(setting, running)
            print(f"{setting.name}: {self._measured.memory[setting.server]:.0f} MB", flush=True)

    def _started(self, setting: Setting) -> bool:
        try:
            running = contenders.start(setting, self._environments, self._folder)
        except RuntimeError as error:
            self._measured.said.append(str(error))
            return False
        self.servers[setting.server] = running
        if setting.peer is None:
            contenders.push_models(setting, running, self._folder)
        else:
            version = environments.version_of(self._environments, setting.peer)
            self._measured.versions[setting.server] = version
        return True

    def _wrong(self, running: Running, setting: Setting, work: Work) -> str | None:
        """What is wrong with its answer, or None; it may take its time to get ready."""
        encoding = setting.encoding(work)
        content, headers = works.body(work.model, encoding)
        expected = works.expected(self._folder, work.model)
        until = time.monotonic() + _SETTLING_S
        while True:
            try:
                found = works.answer(*running.ask(setting, work, content, headers), encoding)
            except (OSError, RuntimeError, ValueError, KeyError) as error:
                if time.monotonic() > until:
                    return str(error)
                time.sleep(0.3)
                continue
            if found.shape != expected.shape:
                return f"answered {found.shape} numbers, {expected.shape} are right"
            off = float(np.abs(found - expected).max())
            return None if off <= _TOLERANCE else f"its numbers are off by {off:.3g}"

    def turn(self, setting: Setting, work: Work, seconds: int) -> None:
        """One reading."""
        running = self.servers[setting.server]
        pid, url = running.process.pid, running.url(setting, work)
        script = works.script(self._folder, work.model, setting.encoding(work))
        processes.release(pid)  # those that were not held do not mind
        drive(url, script, pid, WARM_UP_S, work.connections)
        reading = drive(url, script, pid, seconds, work.connections)
        _rest(setting, self.servers[setting.server])
        self._measured.add(work.name, setting.name, reading)

    def kernel(self, seconds: float) -> None:
        python = environments.python_of(self._environments, "floor")
        command = [str(python), str(contenders.SERVERS / "kernel.py"), str(seconds)]
        own = os.environ | {"BENCH_FOLDER": str(self._folder)}
        text = subprocess.run(command, env=own, capture_output=True, text=True, check=True).stdout
        self._measured.kernel.append(float(text))

    def end(self) -> None:
        for running in self.servers.values():
            processes.end(running.process)


def _rest(setting: Setting, running: Running) -> None:
    """Hold still what polls. Others are not held: BentoML's batches, for one, learn from how long
    the last ones took, and would learn that from having been stopped."""
    if setting.polls:
        processes.hold(running.process.pid)


def measure(field: Field, asked: list[Work], rounds: int, seconds: int, lock: Path | None) -> None:
    """`rounds` readings of everything, each in another order: who comes after whom may matter. The
    lock is held for two works at a time, some 90 s."""
    for number in range(rounds):
        for first in range(0, len(asked), 2):
            with _held(lock):
                for work in asked[first : first + 2]:
                    _round(field, work, number, seconds)
                    print(f"round {number + 1}: {work.name}", flush=True)


def _round(field: Field, work: Work, number: int, seconds: int) -> None:
    settings = field.right.get(work.name, [])
    order = random.Random(number)
    for _ in range(work.times):
        for setting in order.sample(settings, len(settings)):
            field.turn(setting, work, seconds)
    if work.model == "large" and work.connections > 1:
        field.kernel(seconds)


@contextlib.contextmanager
def _held(lock: Path | None) -> Iterator[None]:
    if lock is None:
        yield
        return
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{model}, {os.cpu_count()} cores, Linux, Python {platform.python_version()}"
