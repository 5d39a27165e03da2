"""A runtime of the operator's own is held to the registered signature, and comes from the
configuration or an installed package alone."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from aiaas_async.compute.frames import Pieces, whole
from aiaas_async.compute.inloop import InLoopWorkers
from aiaas_async.compute.jobs import ArtifactFiles, Differentiate, Infer, Inspect, Load, Unload
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.errors import (
    ArtifactError,
    InputError,
    InvalidError,
    MemoryBudgetError,
    WorkerDiedError,
    WorkerError,
)
from aiaas_async.messages import TensorSpec
from aiaas_async.runtimes import table
from aiaas_async.runtimes.base import Artifact, Differentiable
from aiaas_async.runtimes.custom import CustomModel, CustomRuntime
from aiaas_async.runtimes.table import Runtimes
from tests.compute.processes import fork_server_of
from tests.runtimes.operators import Echo, Polynomial

HERE = "tests.runtimes.operators"
X, Y = TensorSpec("x", "float32", (1,)), TensorSpec("y", "float32", (1,))


def polynomial(folder: Path) -> Artifact:
    path = folder / "0a1b"
    path.write_text(json.dumps([3, 1]))
    return Artifact({"polynomial.json": path}, None, (X,), (Y,))


def echo(gives: Any, *outputs: TensorSpec, monkeypatch: pytest.MonkeyPatch) -> CustomModel:
    monkeypatch.setattr(Echo, "gives", gives)
    return CustomRuntime("echo", f"{HERE}:Echo").load(Artifact({}, None, (X,), outputs))


def column(*numbers: float) -> Any:
    return np.array(numbers, np.float32)[:, None]


@pytest.mark.parametrize(
    "processes", [False, pytest.param(True, marks=pytest.mark.real)], ids=["in the loop", "real"]
)
async def test_a_scikit_learn_pipeline_is_served_from_its_arrays(
    tmp_path: Path, processes: bool
) -> None:
    from tests.runtimes.pipelines import fitted_to_irises, store_pipeline  # noqa: PLC0415 - 0.8 s

    fitted, features = fitted_to_irises()
    store_pipeline(fitted, tmp_path / "0a1b")
    artifact = ArtifactFiles(
        "pipeline",
        {"pipeline.safetensors": str(tmp_path / "0a1b")},
        inputs=(TensorSpec("features", "float64", (4,)),),
        outputs=(TensorSpec("label", "int64", ()), TensorSpec("probabilities", "float32", (3,))),
    )
    targets = {"pipeline": "tests.runtimes.pipelines:SklearnPipeline"}
    source = WorkerForks(runtimes=targets) if processes else InLoopWorkers(targets)
    worker = await source.spawn()
    await worker.submit(Load("iris", artifact))
    answer = await worker.submit(Infer("iris", len(features)), whole({"features": features}))
    assert answer.arrays["label"].tolist() == fitted.predict(features).tolist()
    assert answer.arrays["probabilities"].dtype == np.float32
    np.testing.assert_allclose(
        answer.arrays["probabilities"], fitted.predict_proba(features), rtol=1e-5
    )
    await source.close()


async def test_losses_and_gradients_are_asked_of_the_class(tmp_path: Path) -> None:
    targets = {"poly": f"{HERE}:Polynomial", "lossy": f"{HERE}:LossOnly", "echo": f"{HERE}:Echo"}
    worker = await InLoopWorkers(targets).spawn()
    given = polynomial(tmp_path)
    files = {label: str(path) for label, path in given.files.items()}
    arrays = whole({"inputs/x": column(1, 2), "targets/y": column(0, 0)})
    for name in targets:
        await worker.submit(Load(name, ArtifactFiles(name, files, None, (X,), (Y,))))
    both = await worker.submit(Differentiate("poly", "both"), arrays)
    assert both.facts == {"loss": (16 + 169) / 2}
    assert both.arrays["inputs/x"].tolist() == [[4 * 6.0], [13 * 12.0]]
    assert both.arrays["parameters/a"].tolist() == [4 * 1 + 13 * 4]
    assert (await worker.submit(Differentiate("lossy", "nothing"), arrays)).facts == both.facts
    with pytest.raises(InvalidError, match="computes losses, but no gradients"):
        await worker.submit(Differentiate("lossy", "both"), arrays)
    with pytest.raises(InvalidError, match="computes no losses or gradients"):
        await worker.submit(Differentiate("echo", "nothing"), arrays)
    for wrt in ("nothing", "both"):
        with pytest.raises(InputError, match="'x' is missing"):
            await worker.submit(Differentiate("poly", wrt), arrays[1:])


@pytest.mark.real
@pytest.mark.parametrize("width", [4, 150_000], ids=["in the datagram", "in the slot"])
async def test_what_a_class_keeps_of_its_inputs_stays_as_it_was(width: int) -> None:
    forks = WorkerForks(runtimes={"keeper": f"{HERE}:Keeper"})
    worker = await forks.spawn()
    x, y = TensorSpec("x", "float32", (width,)), TensorSpec("y", "float32", (width,))
    await worker.submit(Load("m", ArtifactFiles("keeper", {}, None, (x,), (y,))))

    def filled(value: int, *names: str) -> list[Pieces]:
        return whole({name: np.full((1, width), value, np.float32) for name in names})

    predicted = []
    for value in (1, 2, 3, 4, 5):
        answer = await worker.submit(Infer("m", 1), filled(value, "x"))
        predicted.append(answer.arrays["y"][0, 0])
    assert predicted == [1, 1, 2, 3, 4]
    asked: list[Literal["nothing", "both"]] = ["nothing", "nothing", "both", "both"]
    for value, wrt in enumerate(asked, 6):
        pair = filled(value, "inputs/x", "targets/y")
        assert (await worker.submit(Differentiate("m", wrt), pair)).facts["loss"] == value - 1
    await forks.close()


@pytest.mark.real
async def test_a_fork_server_that_is_started_again_knows_the_same_runtimes(tmp_path: Path) -> None:
    forks = WorkerForks(runtimes={"poly": f"{HERE}:Polynomial"})
    files = {label: str(path) for label, path in polynomial(tmp_path).files.items()}
    given = ArtifactFiles("poly", files, None, (X,), (Y,))
    first = await forks.spawn()
    await first.submit(Load("m", given))
    os.kill(fork_server_of(forks), signal.SIGKILL)
    await first.wait_dead()
    while True:  # the first try may still meet the dead one
        try:
            worker = await forks.spawn()
        except WorkerDiedError:
            await asyncio.sleep(0)  # its end is noticed by the loop
            continue
        break
    await worker.submit(Load("m", given))
    answer = await worker.submit(Infer("m", 1), whole({"x": column(2)}))
    assert answer.arrays["y"].tolist() == [[13.0]]
    await forks.close()


def test_inspection_says_what_was_registered_and_leaves_nothing_open(tmp_path: Path) -> None:
    given, closed = polynomial(tmp_path), Polynomial.closed
    found = CustomRuntime("poly", f"{HERE}:Polynomial").inspect(given)
    assert (found.inputs, found.outputs, found.nbytes) == ((X,), (Y,), 6)
    assert Polynomial.closed == closed + 1


@pytest.mark.parametrize(
    ("said", "meant"), [(None, False), (False, False), ("yes", False), (True, True)]
)
def test_answers_depend_on_the_inputs_alone_only_if_the_class_says_so(
    said: object, meant: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if said is not None:
        monkeypatch.setattr(Polynomial, "deterministic", said, raising=False)
    found = CustomRuntime("poly", f"{HERE}:Polynomial").inspect(polynomial(tmp_path))
    assert found.deterministic is meant


def test_a_class_within_a_class_can_be_named_and_each_version_has_its_own_object(
    tmp_path: Path,
) -> None:
    runtime = CustomRuntime("poly", f"{HERE}:Shelf.Inner")
    one, two = runtime.load(polynomial(tmp_path)), runtime.load(polynomial(tmp_path))
    one.close()
    assert isinstance(two, Differentiable)
    assert two.predict({"x": column(2)}, None)["y"].tolist() == [[13.0]]


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("specs", [(), (TensorSpec("x"),), (TensorSpec("x", "float32"),)])
def test_a_signature_must_be_registered_whole(
    tmp_path: Path, side: str, specs: tuple[TensorSpec, ...]
) -> None:
    given = polynomial(tmp_path)
    inputs, outputs = (specs, (Y,)) if side == "inputs" else ((X,), specs)
    with pytest.raises(InvalidError, match=rf"register the {side} as {{name, dtype, shape}}"):
        CustomRuntime("poly", f"{HERE}:Polynomial").load(
            replace(given, inputs=inputs, outputs=outputs)
        )


def test_wrong_inputs_and_outputs_never_reach_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    model = echo(AssertionError("reached"), Y, monkeypatch=monkeypatch)
    for arrays in ({}, {"x": np.ones((2, 1))}, {"x": column(1), "z": column(1)}):
        with pytest.raises(InputError):
            model.predict(arrays, None)
    with pytest.raises(InputError, match="no output 'z'"):
        model.predict({"x": column(1)}, ["z"])


@pytest.mark.parametrize(
    ("gives", "reason"),
    [
        (None, "gave NoneType, not outputs by name"),
        ({}, "gave no output 'y'"),
        ({"y": column(1)}, r"shape \[1, 1\]; promised are 2 rows of \[1\]"),
        ({"y": np.ones((2, 2))}, r"shape \[2, 2\]"),
        ({"y": 1.0}, r"shape \[\]"),
        ({"y": np.array([["a"], ["b"]])}, "has dtype <U1, not float32"),
        ({"y": np.array([[object()], [object()]])}, "has dtype object"),
        ({"y": np.ones((2, 1), complex)}, "has dtype complex128"),
    ],
)
def test_what_the_class_gives_must_be_what_was_promised(
    gives: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = echo(gives, Y, monkeypatch=monkeypatch)
    with pytest.raises(ArtifactError, match=reason):
        model.predict({"x": column(1, 2)}, None)


def test_other_floats_lists_and_python_strings_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    label = TensorSpec("label", "string", ())
    gives = {"y": [[1.5], [2]], "label": np.array(["a", "bcd"], object), "more": object()}
    model = echo(gives, Y, label, monkeypatch=monkeypatch)
    found = model.predict({"x": column(1, 2)}, None)
    assert found["y"].dtype == np.float32
    assert found["y"].tolist() == [[1.5], [2.0]]
    assert found["label"].dtype == np.dtype("U3")
    assert list(model.predict({"x": column(1, 2)}, ["label"])) == ["label"]
    monkeypatch.setattr(Echo, "gives", {"label": np.array(["a", None], object)})
    with pytest.raises(ArtifactError, match="something else than strings"):
        model.predict({"x": column(1, 2)}, ["label"])
    monkeypatch.setattr(Echo, "gives", {"label": np.array(["a\0b", "a\0"], object)})
    with pytest.raises(ArtifactError, match="output 'label': text 1 ends in a NUL character"):
        model.predict({"x": column(1, 2)}, ["label"])


async def test_what_the_class_raises_is_logged_and_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await InLoopWorkers({"echo": f"{HERE}:Echo"}).spawn()
    for label, reason in (("refused", "is not wanted"), ("broken", r"these files \(KeyError\)")):
        artifact = ArtifactFiles("echo", {label: "/absent"}, None, (X,), (Y,))
        for job in (Inspect(artifact), Load("m", artifact)):
            with pytest.raises(ArtifactError, match=reason) as caught:
                await worker.submit(job)
            assert "/a/path" not in caught.value.message
    assert "/a/path/on/the/server" in caplog.text
    with pytest.raises(MemoryBudgetError):
        await worker.submit(
            Load("m", ArtifactFiles("echo", {"large": "/absent"}, None, (X,), (Y,)))
        )
    await worker.submit(Load("m", ArtifactFiles("echo", {}, None, (X,), (Y,))))
    for error, kind in ((ZeroDivisionError("secret"), WorkerError), (InputError("no"), InputError)):
        monkeypatch.setattr(Echo, "gives", error)
        with pytest.raises(kind) as failed:
            await worker.submit(Infer("m", 1), whole({"x": column(1)}))
        assert "secret" not in str(failed.value)
    await worker.submit(Unload("m"))


@pytest.mark.parametrize(
    "target", [f"{HERE}:Absent", "no_such_module:C", f"{HERE}:Choosy", f"{HERE}:Silent"]
)
def test_a_class_that_cannot_be_used_is_the_server_s_fault(
    target: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(WorkerError, match="set up wrongly on this server"):
        CustomRuntime("mine", target).load(Artifact({}, None, (X,), (Y,)))


@pytest.mark.parametrize(
    ("name", "target", "reason"),
    [
        ("numpy", f"{HERE}:Echo", "is built in"),
        ("onnx", f"{HERE}:Echo", "is built in"),
        ("No", f"{HERE}:Echo", "runtime 'No' is not allowed"),
        ("mine", "os.system", "must read 'package.module:Class'"),
        ("mine", "a:b:c", "must read"),
        ("mine", ":C", "must read"),
        ("mine", "a.b:", "must read"),
        ("mine", "a b:C", "must read"),
        ("mine", "../a:C", "must read"),
        ("mine", f"{HERE}:Echo\n", "must read"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_at_the_start(
    name: str, target: str, reason: str
) -> None:
    for starts in (Runtimes, InLoopWorkers, lambda given: WorkerForks(runtimes=given)):
        with pytest.raises(InvalidError, match=reason):
            starts({name: target})


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Entry points as installed packages would declare them."""
    offered: dict[str, str] = {}

    def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
        return [importlib.metadata.EntryPoint(n, v, group) for n, v in offered.items()]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    table._installed.cache_clear()
    yield offered
    table._installed.cache_clear()


def test_an_installed_package_may_offer_a_runtime(
    installed: dict[str, str], tmp_path: Path
) -> None:
    installed |= {"poly": f"{HERE}:Polynomial", "numpy": f"{HERE}:Echo", "echo": "no.such:Class"}
    runtimes = Runtimes({"echo": f"{HERE}:Echo"})
    model = runtimes["poly"].load(polynomial(tmp_path))
    assert model.predict({"x": column(1)}, None)["y"].tolist() == [[4.0]]
    assert not isinstance(runtimes["numpy"], CustomRuntime)
    runtimes["echo"].load(Artifact({}, None, (X,), (Y,)))  # the configuration goes first
    with pytest.raises(InvalidError, match=r"known: numpy, onnx, echo, poly; did you mean 'poly'"):
        runtimes["pole"]


def test_a_name_out_of_a_request_is_never_imported(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in (f"{HERE}:Echo", "os:system", "../numpy", "", "x" * 10_000):
        with pytest.raises(InvalidError, match="is not known") as caught:
            Runtimes()[name]
        assert len(caught.value.message) < 300


def test_onnx_without_its_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiaas_async.runtimes.onnx", None)
    with pytest.raises(InvalidError, match=r"pip install 'aiaas-async\[onnx\]'"):
        Runtimes()["onnx"]


def test_parts_are_held_to_the_signature_like_whole_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def parts(_: Echo, arrays: Any) -> Iterator[Any]:
        yield {"y": [[1], [2]], "more": 0}
        yield {"y": np.ones((1, 1))}

    monkeypatch.setattr(Echo, "stream", parts, raising=False)
    model = echo(None, Y, monkeypatch=monkeypatch)
    found = model.stream({"x": column(1, 2)}, None)
    first = next(found)
    assert first["y"].dtype == np.float32
    assert (list(first), first["y"].tolist()) == (["y"], [[1], [2]])
    with pytest.raises(ArtifactError, match=r"shape \[1, 1\]; promised are 2 rows"):
        next(found)
    with pytest.raises(InputError, match="'x' is missing"):
        next(model.stream({}, None))


def test_a_class_without_parts_gives_its_answer_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = echo({"y": column(1, 2)}, Y, monkeypatch=monkeypatch)
    (only,) = model.stream({"x": column(1, 2)}, ["y"])
    assert only["y"].tolist() == [[1], [2]]
