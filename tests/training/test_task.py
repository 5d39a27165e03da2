"""A task reports, stops when asked, resumes to the same bits, and leaves a servable result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiaas_async.errors import (
    CancelledJobError,
    CorruptError,
    DivergedError,
    InvalidError,
    MemoryBudgetError,
)
from aiaas_async.formats.safetensors import map_tensors, write_tensors
from aiaas_async.nn.network import Network
from aiaas_async.runtimes.base import Artifact
from aiaas_async.runtimes.layers import LayersRuntime
from aiaas_async.training.task import HISTORY_SHOWN, run_task
from tests.training.data import GRAPH, finished, points, stored, training

PLAN: dict[str, Any] = {"epochs": 4, "batch_size": 16, "optimizer": "adam", "seed": 3}
ARTIFACT = Artifact({}, GRAPH)


def never() -> bool:
    return False


def after(calls: int) -> Callable[[], bool]:
    """A stop that is requested at the n-th question."""
    left = iter(range(calls))
    return lambda: next(left, None) is None


def task_of(folder: Path, start: str = "graph", **plan: Any) -> dict[str, Any]:
    manifest = stored(folder / "data")
    return {"plan": {**PLAN, **plan}, "data": manifest, "start": start}


def run(
    task: dict[str, Any],
    folder: Path,
    stop: Callable[[], bool] = never,
    artifact: Artifact = ARTIFACT,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(all progress, the final facts)."""
    *progress, (facts, final) = run_task(artifact, task, folder, stop)
    assert final
    assert not any(last for _, last in progress)
    return [facts for facts, _ in progress], facts


def result_of(folder: Path) -> bytes:
    return (folder / "result" / "weights.safetensors").read_bytes()


def test_the_result_is_servable_and_its_facts_describe_it(tmp_path: Path) -> None:
    progress, facts = run(task_of(tmp_path), tmp_path / "job")
    json.dumps(facts, allow_nan=False)
    files = {label: tmp_path / "job" / name for label, name in facts["files"].items()}
    model = LayersRuntime().load(Artifact(files))
    found = model.predict({"x": points(20, 5)["x"]}, None)
    assert found["label"].shape == (20,)
    assert [each["epoch"] for each in progress if "val_loss" in each] == [1, 2, 3, 4]
    assert set(facts["metrics"]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert (facts["epochs"], facts["steps"], facts["samples"]) == (4, 12, 180)
    assert facts["history"][-1]["epoch"] == 4


def test_the_task_does_what_the_loop_does(tmp_path: Path) -> None:
    run(task_of(tmp_path), tmp_path / "job")
    expected = finished(training(**PLAN)).params
    found = map_tensors(tmp_path / "job" / "result" / "weights.safetensors").tensors
    for name, array in expected.items():
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("method", ["sgd", "gd"])
def test_stopped_at_any_step_and_resumed_it_ends_with_the_same_bits(
    tmp_path: Path, method: str
) -> None:
    task = task_of(tmp_path, method=method, early_stopping={"patience": 2})
    run(task, tmp_path / "unbroken")
    calls = 0
    while True:
        folder = tmp_path / f"stopped-{calls}"
        try:
            run(task, folder, after(calls))
        except CancelledJobError as error:
            message = error.message
        else:
            break
        assert "a checkpoint is kept" in message
        assert not (folder / "result").exists()
        run(task, folder)
        assert result_of(folder) == result_of(tmp_path / "unbroken")
        calls += 1
    assert calls > 10


def test_killed_between_checkpoints_it_goes_on_from_the_last(tmp_path: Path) -> None:
    """A kill is the generator never being asked again: no clean-up runs."""
    task = task_of(tmp_path, checkpoint_every_steps=5)
    run(task, tmp_path / "unbroken")
    questions = 0

    def kill() -> bool:
        nonlocal questions
        questions += 1
        if questions == 12:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        run(task, tmp_path / "killed", kill)
    assert list((tmp_path / "killed").glob("checkpoint-*"))
    progress, _ = run(task, tmp_path / "killed")
    assert next(each["epoch"] for each in progress if "val_loss" in each) > 1
    assert result_of(tmp_path / "killed") == result_of(tmp_path / "unbroken")


def test_who_did_not_hear_it_is_told_what_came_before(tmp_path: Path) -> None:
    task, ends = {**task_of(tmp_path), "recall": True}, {"epochs": 4, "steps": 12}
    with pytest.raises(CancelledJobError):
        run(task, tmp_path / "job", after(9))
    heard, _ = run(task, tmp_path / "job")
    (at,) = (number for number, facts in enumerate(heard) if "resumed" in facts)
    assert heard[at] == {"resumed": True, "epoch": 2, "step": 6} | ends
    assert at == 2
    told = [facts for facts in heard if "val_loss" in facts]
    assert [facts["epoch"] for facts in told] == [1, 2, 3, 4]
    assert all(facts.items() >= ends.items() for facts in told)


def test_a_run_that_begins_has_nothing_to_recall(tmp_path: Path) -> None:
    heard, _ = run({**task_of(tmp_path), "recall": True}, tmp_path / "job")
    assert not any("resumed" in facts for facts in heard)


def test_a_finished_run_started_again_only_writes_its_result_anew(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    _, first = run(task, tmp_path / "job")
    before = result_of(tmp_path / "job")
    (tmp_path / "job" / "result" / "weights.safetensors").unlink()
    progress, facts = run(task, tmp_path / "job", after(0))
    assert progress == []
    assert facts == first
    assert result_of(tmp_path / "job") == before


def test_another_plan_in_the_same_folder_starts_afresh(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    run(task, tmp_path / "job")
    other = {**task, "plan": {**PLAN, "seed": 4}}
    run(other, tmp_path / "job")
    run(other, tmp_path / "fresh")
    assert result_of(tmp_path / "job") == result_of(tmp_path / "fresh")


def test_fine_tuning_starts_from_the_parent_s_weights_and_leaves_them(tmp_path: Path) -> None:
    run(task_of(tmp_path, epochs=30), tmp_path / "parent")
    weights = tmp_path / "parent" / "result" / "weights.safetensors"
    before = weights.read_bytes()
    parent = Artifact({"weights.safetensors": weights}, GRAPH)
    task = task_of(tmp_path / "again", "weights", epochs=1, learning_rate=1e-6)
    _, tuned = run(task, tmp_path / "tuned", artifact=parent)
    _, fresh = run({**task, "start": "graph"}, tmp_path / "fresh", artifact=parent)
    assert tuned["metrics"]["val_loss"] < fresh["metrics"]["val_loss"]
    assert weights.read_bytes() == before


def test_divergence_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    plain = {**GRAPH, "layers": [e for e in GRAPH["layers"] if e["op"] != "batch_norm"]}
    schedule = {"name": "step", "every": 1000}
    task = task_of(
        tmp_path, optimizer="sgd", learning_rate=1e6, momentum=0.9, epochs=50,
        checkpoint_every_steps=1, schedule=schedule,
    )  # fmt: skip
    folder = tmp_path / "job"
    with pytest.raises(DivergedError):
        run(task, folder, artifact=Artifact({}, plain))
    for path in folder.glob("checkpoint-*"):
        tensors = map_tensors(path).tensors
        assert all(np.isfinite(a).all() for a in tensors.values() if a.dtype.kind == "f")
    assert list(folder.glob("checkpoint-*"))
    assert not (folder / "result").exists()


def test_a_long_history_is_thinned_and_ends_with_the_last_epoch(tmp_path: Path) -> None:
    _, facts = run(task_of(tmp_path, epochs=450, batch_size=64, validation=0), tmp_path / "job")
    shown = [each["epoch"] for each in facts["history"]]
    assert len(shown) <= HISTORY_SHOWN
    assert shown[-1] == 450
    assert set(np.diff(shown)) == {3}


def test_tasks_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    with pytest.raises(InvalidError, match=r"training task: .*`strat`"):
        run({**task, "strat": "graph"}, tmp_path / "job")
    with pytest.raises(InvalidError, match="did you mean 'epochs'"):
        run({**task, "plan": {"epoch": 1}}, tmp_path / "job")
    with pytest.raises(CorruptError):
        run({**task, "data": {**task["data"], "items": 51}}, tmp_path / "job")


def test_a_network_that_cannot_fit_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    huge = [{"name": f"d{i}", "op": "dense", "units": 40_000} for i in range(20)]
    graph = {**GRAPH, "layers": huge, "outputs": ["d19"]}
    assert Network.from_spec(graph).parameter_count > 10**10
    with pytest.raises(MemoryBudgetError, match=r"parameters takes about \d+ MiB; the worker may"):
        run(task_of(tmp_path), tmp_path / "job", artifact=Artifact({}, graph))


def test_a_batch_that_cannot_fit_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    wide: list[dict[str, Any]] = [{"name": "d", "op": "dense", "units": 1000, "use_bias": False}]
    wide += [
        {"name": f"c{i}", "op": "concatenate", "inputs": [f"c{i - 1}" if i else "d"] * 2}
        for i in range(20)
    ]
    graph = {**GRAPH, "layers": wide, "outputs": ["c19"]}
    with pytest.raises(MemoryBudgetError, match=r"a batch of 45 items takes .* plan.batch_size"):
        run(task_of(tmp_path, batch_size=64), tmp_path / "job", artifact=Artifact({}, graph))


def test_weights_that_do_not_fit_the_graph_are_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "w", {"hidden.weight": np.ones((6, 8), np.float32)})
    artifact = Artifact({"w.safetensors": tmp_path / "w"}, GRAPH)
    with pytest.raises(InvalidError, match="missing"):
        run(task_of(tmp_path, "weights"), tmp_path / "job", artifact=artifact)
