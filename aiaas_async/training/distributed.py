"""Synchronous data-parallel training: the loop of `loop.py`, each batch divided over a crew.

The batches are those of a single worker: the epoch's order follows from the seed alone, and each
worker computes its part of each batch. Their gradients, weighted by items, are added up in a fixed
order through shared memory, so the number of workers shows only in the rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from aiaas_async.errors import ArtifactError, CancelledJobError, InvalidError
from aiaas_async.formats.safetensors import map_tensors, write_tensors
from aiaas_async.nn.batches import minibatches
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from aiaas_async.nn.normalisation import BatchNorm
from aiaas_async.runtimes.base import Artifact
from aiaas_async.training.checkpoint import Checkpoints
from aiaas_async.training.crew import Crew, Memory, Number
from aiaas_async.training.items import Indices
from aiaas_async.training.loop import Sums, Training
from aiaas_async.training.reduce import Vector
from aiaas_async.training.state import Best, Params, State
from aiaas_async.training.task import Facts, Watch, finish, first, made, open_task, run_key

VERIFIED_STEPS: Final = 100
TOLERANCE: Final = 1e-5
_SNAPSHOT: Final = "verify.safetensors"
_ALL: Final = ""  # the flat vector's name for the optimiser
_PAUSE: Final[tuple[Facts, bool]] = ({}, False)


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the `nodes`' workers this is, and the memory they share."""

    rank: int
    nodes: tuple[str, ...]
    memory: Memory


@dataclass(frozen=True, slots=True)
class SharedTraining(Training):
    """A training of which this worker does its part. `stop_requested` is asked by the first."""

    crew: Crew
    stop_requested: Callable[[], bool]

    def begin(self, state: State) -> Generator[State, None, State]:
        """`state`, the same for all, in the shared memory."""
        crew = self.crew
        state = replace(state, params=dict(state.params), slots=dict(state.slots))
        params, slots = self._views()
        if crew.rank == 0:
            for name, view in params.items():
                np.copyto(view, state.params[name])
            for name, view in slots.items():
                np.copyto(view, state.slots[name])
        yield from self._meet(state)
        params = {**state.params, **params}
        return replace(state, params=params, slots={**slots, "step": state.slots["step"]})

    def _views(self) -> tuple[dict[str, Array], dict[str, Array]]:
        vector, names = vector_of(self), slot_names(self)
        slots = {
            f"{slot}{name}": view
            for slot, flat in zip(names, self.crew.slots, strict=True)
            for name, view in vector.views(flat).items()
        }
        return vector.views(self.crew.weights), slots

    def _step(self, state: State, indices: Indices) -> Generator[State, None, State]:
        started, sums = time.perf_counter(), Sums(len(indices))
        for part, at in enumerate(minibatches(len(indices), self.plan.batch_size)):
            if part:
                yield state
            state = replace(state, params=self._learn_share(state, part, indices[at], sums))
        return (yield from self._exchange(state, sums, started))

    def _learn_share(self, state: State, part: int, batch: Indices, sums: Sums) -> Params:
        """The parameters, with new running statistics where one worker sees whole batches."""
        started, rows = time.perf_counter(), self.crew.share(len(batch))
        params = state.params
        if rows.stop > rows.start:
            rng = self.dropout(state.step, part)
            if self.crew.world > 1:
                rng = _Rows(rng, len(batch), rows)
            params = self.learn(state, params, batch[rows], rng, sums)
        self.crew.beat(time.perf_counter() - started)
        return params

    def _exchange(self, state: State, sums: Sums, started: float) -> Generator[State, None, State]:
        """Gradients to sums to the next weights; three meetings, each worker a segment."""
        crew = self.crew
        crew.offer(sums.grads)
        crew.say(Number.LOSS, sums.loss, sums.right, sums.decided)
        yield from self._meet(state)
        _agree(crew, Number.LOSS, sums)
        self.check_finite("loss", sums.loss, state)
        grad = crew.reduce()
        with np.errstate(all="ignore"):
            crew.say(Number.NORM, float(np.vdot(grad, grad)))
        yield from self._meet(state)
        size = math.sqrt(crew.total(Number.NORM))
        self.check_finite("gradient's norm", size, state)
        slots = self._take_step(state, grad, size)
        if crew.rank == 0 and self.stop_requested():
            crew.order_stop()
        yield from self._meet(state)
        sums.seconds = time.perf_counter() - started
        after = replace(state, slots={**state.slots, "step": slots["step"]})
        return self.stepped(after, sums, size, self.rate(state))

    def _take_step(self, state: State, grad: Array, size: float) -> Mapping[str, Array]:
        """The optimiser's step on this worker's segment, in place; its new slots."""
        crew, limit, mine = self.crew, self.plan.clip_norm, self.crew.mine
        if limit is not None and size > limit:
            grad *= limit / size
        names = slot_names(self)
        slots = {slot: flat[mine] for slot, flat in zip(names, crew.slots, strict=True)}
        old = {_ALL: crew.weights[mine]}
        with np.errstate(all="ignore"):
            new, after = self.plan.optimizer.step(
                {**slots, "step": state.slots["step"]}, old, {_ALL: grad}, self.rate(state)
            )
        np.copyto(old[_ALL], new[_ALL])
        for slot, view in slots.items():
            np.copyto(view, after[slot])
        return after

    def _validation(self, state: State) -> Generator[State, None, Sums]:
        kept, crew = self.split.validation, self.crew
        sums = Sums(len(kept))
        for at in minibatches(len(kept), self.plan.batch_size):
            yield state
            batch = kept[at]
            rows = crew.share(len(batch))
            if rows.stop > rows.start:
                self.validate(state.params, batch[rows], sums)
            crew.beat()
        if len(kept):
            crew.say(Number.VALIDATION, sums.loss, sums.right, sums.decided)
            yield from self._meet(state)
            _agree(crew, Number.VALIDATION, sums)
        return sums

    def _best(self, state: State, facts: dict[str, Any]) -> Best | None:
        best = Training._best(self, state, facts)  # noqa: SLF001 - super() fails in a slots class
        if best is None or best is state.best:
            return best
        # The weights go on changing in place; only the first worker hands them out.
        kept = {n: a.copy() for n, a in best.params.items()} if self.crew.rank == 0 else {}
        return replace(best, params=kept)

    def _meet(self, state: State) -> Iterator[State]:
        for _ in self.crew.meet():
            yield state


class _Rows(np.random.Generator):
    """Draws for a whole batch and gives some of its rows: what they get does not depend on who
    computes them."""

    def __init__(self, whole: np.random.Generator, count: int, rows: slice) -> None:
        super().__init__(whole.bit_generator)
        self._count, self._rows = count, rows

    def random(  # type: ignore[override]
        self, size: Any = None, dtype: Any = np.float64, out: None = None
    ) -> Any:
        drawn = super().random((self._count, *size[1:]), dtype, out)
        return drawn[self._rows]


def _agree(crew: Crew, at: Number, sums: Sums) -> None:
    """Everybody's sums in the place of one's own."""
    sums.loss = crew.total(at)
    sums.right = int(crew.total(at + 1))
    sums.decided = int(crew.total(at + 2))


def vector_of(training: Training) -> Vector:
    """The trained parameters; every worker has the others, which do not change."""
    specs = training.network.parameter_specs()
    return Vector.of({name: specs[name][0] for name in training.network.trained_parameters})


def slot_names(training: Training) -> list[str]:
    """What the optimiser keeps for each parameter: "momentum.", …"""
    made_for_all = training.plan.optimizer.init({_ALL: np.zeros(1)})
    return [name for name in made_for_all if name != "step"]


def shared(
    training: Training,
    memory: Memory,
    place: tuple[int, int],
    stop_requested: Callable[[], bool] = lambda: False,
    dtype: Any = np.float32,
) -> SharedTraining:
    """`training` as worker `place` (rank, world) does it. Raises `InvalidError`."""
    check_divisible(training.network, place[1])
    crew = Crew(memory, vector_of(training), len(slot_names(training)), place, dtype)
    known = {field.name: getattr(training, field.name) for field in fields(Training)}
    return SharedTraining(**known, crew=crew, stop_requested=stop_requested)


def check_divisible(network: Network, world: int) -> None:
    """Raise `InvalidError` for a graph that computes something else when batches are divided."""
    for node in network.graph.nodes:
        if isinstance(node.layer, BatchNorm) and network.trained(node) and world > 1:
            raise InvalidError(
                f"layer {node.name!r}: batch_norm's statistics run over a whole batch, which no "
                "node of a distributed run sees; use layer_norm, or nodes: 1"
            )


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
    training, given = open_task(artifact, task)
    run = shared(training, place.memory, (place.rank, len(place.nodes)), stop_requested)
    checkpoints = Checkpoints(made(directory), run_key(training, given))
    begun = checkpoints.latest() or first(training, artifact, given)
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
