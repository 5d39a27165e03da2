"""A training job as a worker carries it out: open the data, run the loop, report, keep it safe."""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from aiaas_async.data.source import Source
from aiaas_async.errors import CancelledJobError, InvalidError, MemoryBudgetError, StorageError
from aiaas_async.formats.files import replacing
from aiaas_async.formats.graphfile import FILE_NAME as GRAPH_FILE
from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.nn.network import Network
from aiaas_async.runtimes.base import Artifact
from aiaas_async.runtimes.layers import network_of, weights_for, weights_of
from aiaas_async.training.checkpoint import Checkpoints
from aiaas_async.training.finite import check_finite
from aiaas_async.training.items import kept_if_small
from aiaas_async.training.loop import Training, prepare
from aiaas_async.training.plan import parse_plan, render_plan
from aiaas_async.training.state import State

WEIGHTS_FILE: Final = "weights.safetensors"
RESULT: Final = "result"
HISTORY_SHOWN: Final = 200
_REPORT_EVERY_S: Final = 0.2

Facts = dict[str, Any]


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`start`: fresh parameters from the plan's seed, the artifact's weights, or those where
    they fit and fresh ones elsewhere. `recall`: who listens has not heard what an earlier part of
    the run told."""

    plan: dict[str, Any]
    data: dict[str, Any]
    start: Literal["graph", "weights", "transfer"] = "graph"
    recall: bool = False


def run_task(
    artifact: Artifact,
    task: Mapping[str, Any],
    directory: Path,
    stop_requested: Callable[[], bool],
) -> Iterator[tuple[Facts, bool]]:
    """Train `artifact`'s graph and yield (facts, whether they are the final ones).

    Progress is an epoch's metrics, or `{epoch, step, loss}` at most 5 times a second, or nothing
    while the items are looked over. The final
    facts are `{files: {label: path below directory}, metrics, epochs, steps, samples, history}`,
    with `samples` the items seen and `history` thinned to 200 epochs. A checkpoint in
    `directory` is taken up; if asked for, the epochs before it are told again, and then
    `{resumed: true, epoch, step}`. When a stop is requested it checkpoints and raises
    `CancelledJobError`; raises `InvalidError` and `DivergedError` for what cannot be trained.
    """
    training, given, source = open_task(artifact, task)
    checkpoints = Checkpoints(made(directory), run_key(training, given))
    state = checkpoints.latest() or first(training, artifact, given)
    if not state.step:  # what goes on from a checkpoint was looked at when it began
        for _ in check_finite(source, training.wiring):
            yield {}, False
    for facts in recalled(training, given, state):
        yield facts, False
    for step in Watch(training, checkpoints, stop_requested).follow(state):
        if isinstance(step, State):
            state = step
        else:
            yield step, False
    checkpoints.save(state)
    yield finish(training, state, directory), True


class Watch:
    """Looks over the loop's shoulder: reports, checkpoints, and stops it when asked."""

    def __init__(
        self, training: Training, checkpoints: Checkpoints, stop_requested: Callable[[], bool]
    ) -> None:
        self._training, self._checkpoints = training, checkpoints
        self._stop_requested = stop_requested
        self._reported_at = self._saved_at = time.monotonic()
        self._saved_step = -1

    def follow(self, state: State) -> Iterator[State | Facts]:
        """The loop's states as they come, and facts to report among them."""
        self.take_up(state)
        for newest in self._training.run(state):
            yield newest
            ended_epoch = len(newest.history) > len(state.history)
            if (facts := self.report(newest, ended_epoch)) is not None:
                yield facts
            self.save_if_due(newest)
            if self._stop_requested() and not self._training.over(newest):
                self._checkpoints.save(newest)
                raise CancelledJobError(
                    f"training stopped after step {newest.step} of {self._training.total_steps}; "
                    "a checkpoint is kept"
                )
            state = newest

    def take_up(self, state: State) -> None:
        """The run goes on from `state`, which needs no checkpoint."""
        self._saved_step = state.step

    def report(self, state: State, ended_epoch: bool) -> Facts | None:
        now = time.monotonic()
        tally, ends = state.tally, _ends(self._training)
        if ended_epoch:
            self._reported_at = now
            return state.history[-1] | ends
        if not tally.items or now - self._reported_at < _REPORT_EVERY_S:
            return None
        self._reported_at = now
        loss = tally.loss / tally.items
        return {"epoch": state.epoch + 1, "step": state.step, "loss": loss} | ends

    def save_if_due(self, state: State) -> None:
        plan = self._training.plan
        every = plan.checkpoint_every_steps
        by_steps = every is not None and state.step - self._saved_step >= every
        by_time = time.monotonic() - self._saved_at >= plan.checkpoint_every_s
        if state.step > self._saved_step and (by_steps or by_time):
            self._checkpoints.save(state)
            self._saved_at, self._saved_step = time.monotonic(), state.step


def open_task(artifact: Artifact, task: Mapping[str, Any]) -> tuple[Training, Task, Source]:
    try:
        given = msgspec.convert(task, Task, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidError(f"training task: {error}") from error
    plan, network = parse_plan(given.plan), network_of(artifact)
    source = Source.open(given.data)
    training = prepare(network, plan, kept_if_small(source))
    _check_memory(training)
    return training, given, source


def first(training: Training, artifact: Artifact, given: Task) -> State:
    network = training.network
    if given.start == "weights":
        return training.start(weights_of(network, artifact))
    fresh = network.init(training.plan.seed)
    if given.start == "transfer":
        fresh |= weights_for(network, artifact)
    return training.start(fresh)


def recalled(training: Training, given: Task, state: State) -> Iterator[Facts]:
    """What was told before `state` was put down, if it is asked for: its epochs, and where it
    goes on."""
    if not given.recall or not state.step:
        return
    ends = _ends(training)
    for facts in _thinned(state.history):
        yield facts | ends
    yield {"resumed": True, "epoch": state.epoch, "step": state.step} | ends


def _ends(training: Training) -> Facts:
    return {"epochs": training.plan.epochs, "steps": training.total_steps}


def _check_memory(training: Training) -> None:
    """Raise `MemoryBudgetError` when the parameters or a batch cannot fit at all."""
    plan, count = training.plan, training.network.parameter_count
    # Old and new parameters, old and new means and squares, gradients, the best epoch's.
    copies = 7 + (plan.early_stopping is not None)
    _check_fits(4 * copies * count, f"training {count} parameters", "a smaller graph")
    batch = min(plan.batch_size, len(training.split.train))
    needed = batch * (_item_bytes(training) + 2 * _values_bytes(training.network))
    _check_fits(needed, f"a batch of {batch} items", "a smaller plan.batch_size")


def _item_bytes(training: Training) -> int:
    return sum(column.nbytes for column in training.items.columns.values())


def _values_bytes(network: Network) -> int:
    """Every layer's output for one item, in float32; lengths that may be any count as one."""
    shapes = [node.value.shape for node in network.graph.nodes]
    return 4 * sum(math.prod(abs(size) for size in shape) for shape in shapes)


def _check_fits(needed: int, what: str, remedy: str) -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    allowed = memory if limit == resource.RLIM_INFINITY else min(limit, memory)
    if needed > allowed:
        raise MemoryBudgetError(
            f"{what} takes about {needed >> 20} MiB; the worker may use {allowed >> 20} MiB: "
            f"{remedy} fits"
        )


def run_key(training: Training, given: Task) -> str:
    """What two runs must share for one to go on from the other's checkpoint."""
    plan = render_plan(training.plan)
    plan = {key: value for key, value in plan.items() if not key.startswith("checkpoint_")}
    columns = msgspec.to_builtins(dict(training.items.columns))
    facts = [training.network.to_spec(), plan, columns, len(training.items), given.start]
    return sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()


def made(directory: Path) -> Path:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the job's folder cannot be made: {error.strerror}") from error
    return directory


def finish(training: Training, state: State, directory: Path) -> Facts:
    """Write the result, durably, and describe it."""
    folder = made(directory / RESULT)
    write_tensors(folder / WEIGHTS_FILE, state.resulting, {"format": "aiaas"})
    with replacing(folder / GRAPH_FILE) as file:
        file.write(msgspec.json.encode(training.network.to_spec()))
    names = (WEIGHTS_FILE, GRAPH_FILE)
    return {
        "files": {name: f"{RESULT}/{name}" for name in names},
        "metrics": _measured(state.metrics),
        "steps": state.step,
        "epochs": state.epoch,
        "samples": state.epoch * len(training.split.train),
        "history": _thinned(state.history),
    }


def _measured(facts: Mapping[str, Any]) -> dict[str, float]:
    """The quality a version is known by: losses and accuracies, not speeds."""
    return {name: value for name, value in facts.items() if name.endswith(("loss", "accuracy"))}


def _thinned(history: Sequence[Facts]) -> list[Facts]:
    """At most `HISTORY_SHOWN` entries, evenly spaced, the last always among them."""
    every = -(-len(history) // HISTORY_SHOWN) or 1
    return list(history[::-1][::every][::-1])
