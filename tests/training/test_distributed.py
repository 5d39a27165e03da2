"""A divided run gives what a single worker gives, whatever the number of workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.compute.slots import Slot
from aiaas_async.errors import CancelledJobError, DivergedError, InvalidError
from aiaas_async.nn.layer import Array
from aiaas_async.runtimes.base import Artifact
from aiaas_async.training.distributed import SharedTraining, shared
from aiaas_async.training.loop import Training
from aiaas_async.training.part import Place, run_part
from aiaas_async.training.reduce import Vector, add_in_order, segments, share
from aiaas_async.training.state import State
from aiaas_async.training.task import run_task
from tests.training import data
from tests.training.data import Memory, finished, points, stored, training

PLAIN: dict[str, Any] = {
    **data.GRAPH,
    "layers": [each for each in data.GRAPH["layers"] if each["op"] != "batch_norm"],
}
PLAN: dict[str, Any] = {"epochs": 20, "batch_size": 8, "seed": 5, "validation": 0.2}
VARIANTS: list[dict[str, Any]] = [
    {"momentum": 0.9},
    {"optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}},
    {"optimizer": "adam", "schedule": {"name": "cosine"}},
    {"optimizer": "adamw", "clip_norm": 0.5, "accumulate": 2},
    {"clip_norm": 0.1, "batch_size": 7},
]


def together(runs: list[SharedTraining], state: State) -> list[State]:
    """The last states of workers that take turns in this process."""

    def whole(run: SharedTraining) -> Generator[State, None, State]:
        begun = yield from run.begin(state)
        for begun in run.run(begun):  # noqa: B020 - the last one is wanted
            yield begun
        return begun

    turns = {number: whole(run) for number, run in enumerate(runs)}
    ended: dict[int, State] = {}
    while turns:
        for number, turn in list(turns.items()):
            try:
                next(turn)
            except StopIteration as done:
                ended[number] = done.value
                del turns[number]
    return [ended[number] for number in range(len(runs))]


def divided(run: Training, world: int, dtype: Any = np.float32) -> State:
    memory = Slot.create()
    runs = [shared(run, memory, (rank, world), dtype=dtype) for rank in range(world)]
    start = run.start(run.network.init(run.plan.seed, dtype))
    first, *others = together(runs, start)
    copies = {name: array.copy() for name, array in first.params.items()}
    for other in others:
        assert all(np.array_equal(copies[n], a) for n, a in other.params.items())
        assert [each["loss"] for each in other.history] == [e["loss"] for e in first.history]
    memory.close()
    return first


def apart(one: State, other: State) -> float:
    return max(float(np.abs(one.params[n] - other.params[n]).max()) for n in one.params)


def wide(run: Training) -> Training:
    """The same run on items in float64."""
    items = run.items
    assert isinstance(items, Memory)
    arrays = {**items.arrays, "x": items.arrays["x"].astype(np.float64)}
    return Training(
        run.network, run.plan, run.aim, Memory(arrays, items.columns), run.wiring, run.split
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_weights_are_those_of_a_single_worker(variant: dict[str, Any], world: int) -> None:
    run = training(50, PLAIN, **{**PLAN, **variant})
    assert run.total_steps >= 60
    alone, crew = finished(run), divided(run, world)
    assert crew.step == alone.step
    assert apart(crew, alone) <= 1e-5
    for ours, theirs in zip(crew.history, alone.history, strict=True):
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-4)
        assert ours["accuracy"] == theirs["accuracy"]
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_float64_after_a_hundred_steps_they_differ_by_rounding_alone(
    variant: dict[str, Any],
) -> None:
    epochs = 34 if "accumulate" in variant else 20
    run = wide(training(50, PLAIN, **{**PLAN, **variant, "epochs": epochs}))
    assert run.total_steps >= 100
    alone = finished(run, run.start(run.network.init(5, np.float64)))
    for world in (2, 4):
        crew = divided(run, world, np.float64)
        assert crew.params["hidden.weight"].dtype == np.float64
        assert apart(crew, alone) <= 1e-10


def test_a_transformer_by_adam_is_that_of_a_single_worker() -> None:
    """Adam makes whole steps of what rounding leaves of a gradient that is zero."""
    layers: list[dict[str, Any]] = [
        {"name": "rows", "op": "reshape", "shape": [3, 2]},
        {"name": "wide", "op": "dense", "units": 8},
        {"name": "look", "op": "attention", "heads": 2},
        {"name": "sum", "op": "add", "inputs": ["wide", "look"]},
        {"name": "norm", "op": "layer_norm"},
        {"name": "flat", "op": "flatten"},
        *PLAIN["layers"][-2:],
    ]
    graph = {**PLAIN, "layers": layers}
    run = training(50, graph, **{**PLAN, "optimizer": "adam", "learning_rate": 0.01})
    assert run.total_steps == 100
    assert apart(divided(run, 2), finished(run)) <= 1e-5


def test_more_workers_than_items_in_a_batch_is_fine() -> None:
    run = training(20, PLAIN, **{**PLAN, "batch_size": 2})
    assert apart(divided(run, 5), finished(run)) <= 1e-5


def test_the_best_epoch_is_kept_though_the_weights_go_on() -> None:
    stop = {"metric": "val_loss", "patience": 2}
    run = training(60, PLAIN, **{**PLAN, "epochs": 200, "early_stopping": stop, "momentum": 0.9})
    alone, crew = finished(run), divided(run, 2)
    assert crew.best is not None
    assert alone.best is not None
    assert (crew.epoch, crew.best.epoch) == (alone.epoch, alone.best.epoch)
    for name, array in alone.resulting.items():
        np.testing.assert_allclose(crew.resulting[name], array, atol=1e-5)


def test_divergence_is_seen_by_all() -> None:
    run = training(50, PLAIN, **{**PLAN, "learning_rate": 1e6, "momentum": 0.9, "epochs": 500})
    with pytest.raises(DivergedError, match="lower learning_rate"):
        divided(run, 2)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_batch_norm_over_several_nodes_is_refused_and_over_one_it_is_as_alone(
    accumulate: int,
) -> None:
    run = training(50, None, **{**PLAN, "momentum": 0.9, "accumulate": accumulate})
    with pytest.raises(InvalidError, match="'norm': batch_norm's statistics"):
        shared(run, Slot.create(), (0, 2))
    alone, crew = finished(run), divided(run, 1)
    assert "norm.running_mean" in crew.params
    assert np.abs(crew.params["norm.running_mean"]).max() > 0.1
    assert apart(crew, alone) <= 1e-5


def test_one_worker_keeps_the_statistics_of_a_batch_norm() -> None:
    run = training(50, None, **{**PLAN, "epochs": 3})
    crew, alone = divided(run, 1), finished(run)
    assert apart(crew, alone) <= 1e-5
    assert crew.params["norm.running_mean"].any()


def test_what_is_not_trained_stays_and_its_batch_norm_may_be_divided() -> None:
    plan = {**PLAN, "epochs": 3, "trainable": ["logits"], "optimizer": "adamw"}
    run = training(50, None, **plan)
    crew, start = divided(run, 2), run.start(run.network.init(run.plan.seed))
    assert apart(crew, finished(run)) <= 1e-5
    same = {name for name in start.params if np.array_equal(start.params[name], crew.params[name])}
    assert same == start.params.keys() - {"logits.weight", "logits.bias"}


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_segments_and_shares_cover_everything_once(size: int, count: int) -> None:
    for cut in (segments(size, count), [share(size, rank, count) for rank in range(count)]):
        assert len(cut) == count
        assert [at for part in cut for at in range(part.start, part.stop)] == list(range(size))
    lengths = [part.stop - part.start for part in (share(size, r, count) for r in range(count))]
    assert max(lengths) - min(lengths) <= 1


@given(st.lists(st.lists(st.integers(0, 5), max_size=3).map(tuple), max_size=5))
@settings(max_examples=50)
def test_a_vector_gives_back_what_was_put_in_and_parameters_do_not_overlap(
    shapes: list[tuple[int, ...]],
) -> None:
    vector = Vector.of({f"p{number}": shape for number, shape in enumerate(shapes)})
    flat = np.zeros(vector.size)
    for number, view in enumerate(vector.views(flat).values()):
        view[...] = number
    for number, (view, shape) in enumerate(zip(vector.views(flat).values(), shapes, strict=True)):
        assert view.shape == shape
        assert (view == number).all()


def test_sums_do_not_depend_on_who_owns_the_memory() -> None:
    parts: list[Array] = [np.array([1e8], np.float32), np.array([1], np.float32)]
    parts.append(np.array([-1e8], np.float32))
    assert add_in_order(parts, np.empty(1, np.float32))[0] == 0.0


# --- the parts of a task


def never() -> bool:
    return False


def parts(
    folder: Path, task: dict[str, Any], world: int = 2, stop: Callable[[], bool] = never
) -> list[Iterator[tuple[dict[str, Any], bool]]]:
    memory = Slot.create()
    nodes = tuple(f"node-{rank}" for rank in range(world))
    memories = [Slot(os.dup(memory.fileno())) for _ in nodes]
    artifact = Artifact({}, PLAIN)
    return [
        run_part(artifact, task, Place(rank, nodes, memories[rank]), folder / "job", stop)
        for rank in range(world)
    ]


def run(
    folder: Path, task: dict[str, Any], world: int = 2, stop: Callable[[], bool] = never
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(the first worker's progress, its final facts)."""
    told: list[dict[str, Any]] = []
    turns = parts(folder, task, world, stop)
    final: dict[str, Any] = {}
    stopped: list[CancelledJobError] = []
    while turns:
        for turn in list(turns):
            try:
                facts, last = next(turn)
            except StopIteration:
                turns.remove(turn)
            except CancelledJobError as error:
                turns.remove(turn)
                stopped.append(error)
            else:
                told += [facts] if facts and not last else []
                final = facts if last and facts else final
    if stopped:
        assert len(stopped) == world
        raise stopped[0]
    return told, final


def task_of(folder: Path, **plan: Any) -> dict[str, Any]:
    given = {**PLAN, "epochs": 4, "method": "distributed", "momentum": 0.9, **plan}
    return {"plan": given, "data": stored(folder / "data"), "start": "graph"}


def weights(folder: Path) -> bytes:
    return (folder / "job" / "result" / "weights.safetensors").read_bytes()


def test_a_divided_task_reports_each_node_and_leaves_a_result(tmp_path: Path) -> None:
    told, facts = run(tmp_path, task_of(tmp_path, verify=True))
    assert [each["epoch"] for each in told if "val_loss" in each] == [1, 2, 3, 4]
    assert set(told[-1]["nodes"]) == {"node-0", "node-1"}
    assert told[-1]["nodes"]["node-1"]["step_ms"] > 0
    assert told[-1]["samples_per_second"] > 0
    assert (facts["steps"], facts["samples"]) == (20, 160)
    assert facts["verified"]["passed"]
    assert facts["verified"]["steps"] == 20
    assert set(facts["nodes"]) == {"node-0", "node-1"}


def test_a_check_that_fails_says_by_how_much(tmp_path: Path) -> None:
    task = task_of(tmp_path, verify=True)
    run(tmp_path, {**task, "plan": {**task["plan"], "seed": 6}})
    snapshot = tmp_path / "job" / "verify.safetensors"
    other = snapshot.read_bytes()
    _, facts = run(tmp_path, task)
    assert facts["verified"]["passed"]
    snapshot.write_bytes(other)
    _, facts = run(tmp_path, task)  # it is over already, and only verified again
    assert not facts["verified"]["passed"]
    assert facts["verified"]["largest_difference"] > 1e-3


@pytest.mark.parametrize("questions", [1, 4, 7, 10, 19])
def test_stopped_after_any_step_and_resumed_it_ends_with_the_same_bits(
    tmp_path: Path, questions: int
) -> None:
    task = task_of(tmp_path)
    run(tmp_path / "unbroken", task)
    left = iter(range(questions))
    with pytest.raises(CancelledJobError, match="a checkpoint is kept"):
        run(tmp_path / "broken", task, 2, lambda: next(left, None) is None)
    assert not (tmp_path / "broken" / "job" / "result").exists()
    run(tmp_path / "broken", task)
    assert weights(tmp_path / "broken") == weights(tmp_path / "unbroken")


def test_abandoned_between_checkpoints_it_goes_on_from_the_last(tmp_path: Path) -> None:
    task = task_of(tmp_path, checkpoint_every_steps=3)
    run(tmp_path / "unbroken", task)
    turns = parts(tmp_path / "broken", task)
    while len(list((tmp_path / "broken").glob("job/checkpoint-*"))) != 2:
        for turn in turns:
            next(turn)
    for turn in turns:
        turn.close()  # type: ignore[attr-defined]
    told, _ = run(tmp_path / "broken", task)
    assert told[0]["step"] > 5
    assert weights(tmp_path / "broken") == weights(tmp_path / "unbroken")


def test_a_run_may_go_on_with_another_number_of_workers(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    left = iter(range(7))
    with pytest.raises(CancelledJobError):
        run(tmp_path, task, 3, lambda: next(left, None) is None)
    run(tmp_path, task, 2)
    *_, (facts, _) = run_task(
        Artifact({}, PLAIN), {**task, "plan": {**task["plan"], "method": "sgd"}}, tmp_path / "one",
        never,
    )  # fmt: skip
    assert facts["steps"] == 20
    one = np.frombuffer((tmp_path / "one/result/weights.safetensors").read_bytes()[-64:], "f4")
    two = np.frombuffer(weights(tmp_path)[-64:], "f4")
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_points_are_learnt(tmp_path: Path) -> None:
    _, facts = run(tmp_path, task_of(tmp_path, epochs=30), world=4)
    assert facts["metrics"]["loss"] < 0.5
    assert len(points(1)["x"]) == 1
