"""The contract of a worker, kept by the one in the loop and by the process alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aiaas_async.compute.base import Worker, WorkerSource
from aiaas_async.compute.frames import Array, Pieces, whole
from aiaas_async.compute.jobs import (
    ArtifactFiles,
    Differentiate,
    Infer,
    Inspect,
    Inspected,
    Load,
    Texts,
    Unload,
)
from aiaas_async.errors import (
    ArtifactError,
    CancelledJobError,
    InputError,
    InternalError,
    InvalidError,
    NotFoundError,
    WorkerDiedError,
)
from tests.compute.asked import LONG, classifier, load_classifier, load_doubler, train
from tests.runtimes.artifacts import network, params, rows


async def doubled(worker: Worker, x: Array) -> Array:
    answer = await worker.submit(Infer("doubler", len(x)), whole({"x": x}))
    return answer.arrays["doubled"]


async def test_inspecting_and_loading_say_the_same(source: WorkerSource, tmp_path: Path) -> None:
    worker = await source.spawn()
    inspected = await worker.submit(Inspect(classifier(tmp_path)))
    loaded = await worker.submit(load_classifier(tmp_path))
    found = msgspec.convert(inspected.facts, Inspected)
    again = msgspec.convert(loaded.facts, Inspected)
    assert (found.inputs, found.outputs, found.nbytes) == (
        again.inputs,
        again.outputs,
        again.nbytes,
    )
    assert found.inputs == network().inputs
    assert found.outputs == network().outputs
    worker.kill()


async def test_a_call_gives_what_the_network_computes(source: WorkerSource, tmp_path: Path) -> None:
    worker, x = await source.spawn(), rows(3)
    await worker.submit(load_classifier(tmp_path))
    answer = await worker.submit(Infer("classifier", 3), whole({"x": x}))
    expected = network().predict(params(), {"x": x})
    assert answer.arrays["label"].tolist() == expected["label"].tolist()
    np.testing.assert_array_equal(answer.arrays["probabilities"], expected["probabilities"])
    assert answer.compute_us >= 0
    some = await worker.submit(Infer("classifier", 3, ("label",)), whole({"x": x}))
    assert set(some.arrays) == {"label"}
    worker.kill()


async def test_pieces_of_several_callers_run_as_one_batch(source: WorkerSource) -> None:
    worker, x = await source.spawn(), rows(7)
    await worker.submit(load_doubler())
    answer = await worker.submit(Infer("doubler", 7), [Pieces("x", [x[:2], x[2:3], x[3:]])])
    np.testing.assert_array_equal(answer.arrays["doubled"], 2 * x)
    worker.kill()


@pytest.mark.parametrize("count", [0, 1, 2_000, 2_100, 40_000, 900_000])
async def test_arrays_of_any_size_travel(source: WorkerSource, count: int) -> None:
    worker, x = await source.spawn(), rows(count)
    await worker.submit(load_doubler())
    np.testing.assert_array_equal(await doubled(worker, x), 2 * x)
    worker.kill()


async def test_an_answer_s_arrays_are_not_overwritten_by_later_ones(source: WorkerSource) -> None:
    worker = await source.spawn()
    await worker.submit(load_doubler())
    for count in (10, 50_000):
        inputs = [np.full((count, 4), i, np.float32) for i in range(6)]
        answers = [await doubled(worker, x) for x in inputs]
        assert [float(y.max()) for y in answers] == [0, 2, 4, 6, 8, 10]
        assert [float(y.min()) for y in answers] == [0, 2, 4, 6, 8, 10]
    worker.kill()


async def test_two_jobs_may_be_under_way_and_keep_their_order(source: WorkerSource) -> None:
    worker = await source.spawn()
    await worker.submit(load_doubler())
    for count in (10, 50_000):
        first = worker.submit(Infer("doubler", count), whole({"x": np.full((count, 4), 1, "f4")}))
        assert worker.can_submit
        second = worker.submit(Infer("doubler", count), whole({"x": np.full((count, 4), 2, "f4")}))
        assert not worker.can_submit
        with pytest.raises(InternalError, match="under way already"):
            worker.submit(Unload("doubler"))
        assert float((await first).arrays["doubled"].max()) == 2
        assert float((await second).arrays["doubled"].max()) == 4
    assert worker.can_submit
    worker.kill()


async def test_an_abandoned_job_does_not_disturb_the_next(source: WorkerSource) -> None:
    worker = await source.spawn()
    await worker.submit(load_doubler())
    abandoned = worker.submit(Infer("doubler", 1), whole({"x": rows(1)}))
    abandoned.cancel()
    np.testing.assert_array_equal(await doubled(worker, rows(2)), 2 * rows(2))
    worker.kill()


async def test_losses_and_gradients_are_computed_and_named(
    source: WorkerSource, tmp_path: Path
) -> None:
    worker = await source.spawn()
    await worker.submit(load_classifier(tmp_path))
    arrays = whole({"inputs/x": rows(4), "targets/label": np.array([0, 1, 2, 0])})
    loss = await worker.submit(Differentiate("classifier", "nothing"), arrays)
    both = await worker.submit(Differentiate("classifier", "both"), arrays)
    assert both.facts == loss.facts
    assert set(both.arrays) == {"inputs/x"} | {f"parameters/{name}" for name in params()}
    assert loss.arrays == {}
    worker.kill()


async def test_an_unloaded_version_is_gone(source: WorkerSource) -> None:
    worker = await source.spawn()
    await worker.submit(load_doubler())
    await worker.submit(Unload("doubler"))
    with pytest.raises(NotFoundError, match="has not loaded"):
        await doubled(worker, rows(1))
    worker.kill()


async def test_a_failed_job_brings_its_own_error_and_the_worker_lives_on(
    source: WorkerSource, tmp_path: Path
) -> None:
    worker = await source.spawn()
    await worker.submit(load_doubler())
    bare = ArtifactFiles("numpy", {})
    jobs: list[tuple[Any, list[Pieces], type[Exception]]] = [
        (Load("m", bare), [], ArtifactError),
        (Load("m", ArtifactFiles("tensorflow", {})), [], InvalidError),
        (Infer("doubler", 1), whole({"x": np.ones((1, 3))}), InputError),
        (Infer("doubler", 2), whole({"x": rows(1)}), ArtifactError),
        (Inspect(ArtifactFiles("numpy", {"w.safetensors": "/absent"}, {})), [], InvalidError),
    ]
    for job, arrays, kind in jobs:
        with pytest.raises(kind):
            await worker.submit(job, arrays)
    np.testing.assert_array_equal(await doubled(worker, rows(2)), 2 * rows(2))
    worker.kill()


async def test_training_reports_and_leaves_its_result(source: WorkerSource, tmp_path: Path) -> None:
    worker, progress = await source.spawn(nice=10), list[dict[str, Any]]()
    answer = await worker.submit(train(tmp_path, epochs=3), (), progress.append)
    assert [each["epoch"] for each in progress if "val_loss" in each] == [1, 2, 3]
    assert answer.facts["epochs"] == 3
    for name in answer.facts["files"].values():
        assert (tmp_path / "job" / name).stat().st_size
    json.dumps(answer.facts)
    worker.kill()


async def test_a_stop_ends_training_with_a_checkpoint_and_then_the_worker(
    source: WorkerSource, tmp_path: Path
) -> None:
    worker = await source.spawn()
    done = worker.submit(train(tmp_path, **LONG), (), lambda _: worker.request_stop())
    with pytest.raises(CancelledJobError, match="a checkpoint is kept"):
        await done
    await worker.wait_dead()
    assert not worker.alive
    assert list((tmp_path / "job").glob("checkpoint-*"))


async def test_a_waiting_job_does_not_stop_the_one_before(
    source: WorkerSource, tmp_path: Path
) -> None:
    worker = await source.spawn()
    trained = worker.submit(train(tmp_path, epochs=20))
    loaded = worker.submit(load_doubler())
    assert (await trained).facts["epochs"] == 20
    await loaded
    worker.kill()


async def test_a_stopping_worker_takes_no_more_jobs_and_finishes_what_it_has(
    source: WorkerSource,
) -> None:
    worker = await source.spawn()
    loaded = worker.submit(load_doubler())
    worker.request_stop()
    assert not worker.can_submit
    with pytest.raises(WorkerDiedError, match="takes no more jobs"):
        worker.submit(Unload("doubler"))
    assert (await loaded).facts["nbytes"] == 0
    await worker.wait_dead()
    worker.request_stop()
    worker.kill()


async def test_killed_it_says_which_job_had_begun(source: WorkerSource, tmp_path: Path) -> None:
    worker = await source.spawn()
    begun = worker.submit(train(tmp_path, **LONG), (), lambda _: worker.kill())
    waiting = worker.submit(load_doubler())
    for future, started in ((begun, True), (waiting, False)):
        with pytest.raises(WorkerDiedError) as caught:
            await future
        assert caught.value.details == {"started": started}
    await worker.wait_dead()
    assert not worker.alive
    with pytest.raises(WorkerDiedError) as caught:
        worker.submit(load_doubler())
    assert caught.value.details == {"started": False}
    worker.kill()


async def test_texts_are_read_before_the_model_runs_and_those_that_cannot_be_are_named(
    source: WorkerSource, tmp_path: Path
) -> None:
    worker, (a, b) = await source.spawn(), rows(2)
    await worker.submit(load_doubler())
    sent = [json.dumps([a.tolist()]).encode(), b"[[1, 2", json.dumps(b.tolist()).encode()]
    texts = Texts("x", a.shape, tuple((1, len(text)) for text in sent))
    pieces = Pieces("x", [np.frombuffer(text, np.uint8) for text in sent])
    answer = await worker.submit(Infer("doubler", 3, texts=(texts,)), [pieces])
    assert answer.facts == {"unread": [1]}
    doubled = answer.arrays["doubled"]
    np.testing.assert_array_equal(doubled, [2 * a, np.zeros_like(a), 2 * b])
    worker.kill()


async def test_a_model_does_not_run_where_no_text_could_be_read(source: WorkerSource) -> None:
    worker = await source.spawn()
    await worker.submit(load_doubler())
    texts = Texts("x", (4,), ((1, 2), (1, 3)))
    pieces = Pieces("x", [np.frombuffer(text, np.uint8) for text in (b"[1", b"[2,")])
    answer = await worker.submit(Infer("doubler", 2, texts=(texts,)), [pieces])
    assert (answer.facts, answer.arrays) == ({"unread": [0, 1]}, {})
    worker.kill()
