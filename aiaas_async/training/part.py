"""One worker's part of a distributed run: it computes; the first also reports and keeps it safe.

What the first worker alone does lies between two meetings, so the others wait for it there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from aiaas_async.errors import ArtifactError, CancelledJobError
from aiaas_async.formats.safetensors import map_tensors, write_tensors
from aiaas_async.runtimes.base import Artifact
from aiaas_async.training.checkpoint import Checkpoints
from aiaas_async.training.crew import Memory, Number
from aiaas_async.training.distributed import SharedTraining, shared
from aiaas_async.training.finite import check_finite
from aiaas_async.training.loop import Training
from aiaas_async.training.state import Params, State
from aiaas_async.training.task import (
    Facts,
    Watch,
    finish,
    first,
    made,
    open_task,
    recalled,
    run_key,
)

VERIFIED_STEPS: Final = 100
TOLERANCE: Final = 1e-5
_SNAPSHOT: Final = "verify.safetensors"
_PAUSE: Final[tuple[Facts, bool]] = ({}, False)


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the `nodes`' workers this is, and the memory they share."""

    rank: int
    nodes: tuple[str, ...]
    memory: Memory


def run_part(
    artifact: Artifact,
    task: Mapping[str, Any],
    place: Place,
    directory: Path,
    stop_requested: Callable[[], bool],
) -> Iterator[tuple[Facts, bool]]:
    """One worker's part of a distributed run; yields as `task.run_task` does, and `({}, False)`
    while there is nothing to say. The first worker reports, keeps checkpoints and writes the
    result; the others' final facts are empty.
    """
    training, given, source = open_task(artifact, task)
    run = shared(training, place.memory, (place.rank, len(place.nodes)), stop_requested)
    checkpoints = Checkpoints(made(directory), run_key(training, given))
    begun = checkpoints.latest() or first(training, artifact, given)
    if not begun.step:
        for _ in check_finite(source, training.wiring, (place.rank, len(place.nodes))):
            run.crew.beat()
            yield _PAUSE
    if place.rank == 0:
        for told in recalled(training, given, begun):
            yield told, False
    follow = _First(run, checkpoints, place, directory) if place.rank == 0 else _Other(run)
    state = yield from follow.all(begun)
    if place.rank != 0:
        yield {}, True
        return
    checkpoints.save(state)
    run.crew.beat()
    facts = finish(training, state, directory)
    run.crew.beat()
    if training.plan.verify:
        start = first(training, artifact, given)
        for found in _verify(training, start, state, directory):
            run.crew.beat()
            if stop_requested():
                raise CancelledJobError("stopped while the run was verified; it is verified again")
            facts["verified"] = found
            yield _PAUSE
    yield facts | {"nodes": follow.speeds()}, True


class _Other:
    """A worker that only computes."""

    def __init__(self, run: SharedTraining) -> None:
        self._run = run

    def all(self, state: State) -> Generator[tuple[Facts, bool], None, State]:
        """The run from `state` to its end. Raises `CancelledJobError` where all stop."""
        begin = self._run.begin(state)
        while True:
            try:
                next(begin)
            except StopIteration as done:
                state = done.value
                break
            yield _PAUSE
        self.take_up(state)
        before = state
        for newest in self._run.run(state):
            if newest is not before:
                yield from self.look(before, newest)
                self._stop_if_ordered(newest)
            yield _PAUSE
            before = newest
        return before

    def take_up(self, state: State) -> None:
        """Before the first step."""

    def look(self, before: State, newest: State) -> Iterator[tuple[Facts, bool]]:
        """After each step and each epoch."""
        del before, newest
        yield from ()

    def _stop_if_ordered(self, state: State) -> None:
        if self._run.crew.stopping and not self._run.over(state):
            self.stop(state)
            raise CancelledJobError(
                f"training stopped after step {state.step} of {self._run.total_steps}; a "
                "checkpoint is kept"
            )

    def stop(self, state: State) -> None:
        """Before all stop."""

    def speeds(self) -> dict[str, Facts]:
        return {}


class _First(_Other):
    """The worker that also reports and keeps the run safe."""

    def __init__(
        self, run: SharedTraining, checkpoints: Checkpoints, place: Place, directory: Path
    ) -> None:
        super().__init__(run)
        self._watch = Watch(run, checkpoints, lambda: False)
        self._checkpoints = checkpoints
        self._nodes, self._directory = place.nodes, directory
        self._steps = 0
        self._started = time.perf_counter()

    def take_up(self, state: State) -> None:
        self._watch.take_up(state)
        self._started = time.perf_counter()

    def look(self, before: State, newest: State) -> Iterator[tuple[Facts, bool]]:
        self._steps += newest.step - before.step
        if self._run.plan.verify and newest.step == verified_steps(self._run) != before.step:
            write_tensors(self._directory / _SNAPSHOT, newest.params, {"format": "aiaas"})
        ended_epoch = len(newest.history) > len(before.history)
        if (facts := self._watch.report(newest, ended_epoch)) is not None:
            yield facts | self._more(newest), False
        self._watch.save_if_due(newest)

    def _more(self, state: State) -> Facts:
        """What a distributed run tells besides: each node's times, and the speed of all."""
        tally = state.tally
        if not tally.steps:
            return {"nodes": self.speeds()}
        return {
            "grad_norm": tally.norm / tally.steps,
            "samples_per_second": round(tally.items / max(tally.seconds, 1e-9), 1),
            "nodes": self.speeds(),
        }

    def speeds(self) -> dict[str, Facts]:
        """Of each node, the mean milliseconds a step took it, and those it spent on the rest:
        waiting, adding up, stepping."""
        steps = max(1, self._steps)
        wall = (time.perf_counter() - self._started) / steps * 1e3
        busy = [seconds / steps * 1e3 for seconds in self._run.crew.told(Number.BUSY_S)]
        return {
            node: {"step_ms": round(ms, 3), "other_ms": round(max(0.0, wall - ms), 3)}
            for node, ms in zip(self._nodes, busy, strict=True)
        }

    def stop(self, state: State) -> None:
        self._checkpoints.save(state)


def verified_steps(training: Training) -> int:
    return min(VERIFIED_STEPS, training.total_steps)


def _verify(
    training: Training, state: State, ended: State, directory: Path
) -> Iterator[Facts | None]:
    """The first steps again, by this worker alone: how far do the weights differ? None until it
    is known."""
    steps = min(verified_steps(training), ended.step)
    wanted = _snapshot(directory) if steps == verified_steps(training) else ended.params
    runner = training.run(state)
    while state.step < steps:
        state = next(runner)
        yield None
    largest = max(float(np.max(np.abs(wanted[n] - a))) for n, a in state.params.items() if a.size)
    yield {
        "steps": steps,
        "largest_difference": largest,
        "tolerance": TOLERANCE,
        "passed": largest <= TOLERANCE,
    }


def _snapshot(directory: Path) -> Params:
    try:
        return map_tensors(directory / _SNAPSHOT).tensors
    except OSError as error:
        raise ArtifactError("the weights to verify against are gone") from error
