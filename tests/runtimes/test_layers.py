"""The numpy runtime serves what the files say on mapped weights, and refuses what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiaas_async.errors import ArtifactError, GraphError, InputError, InvalidError
from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.nn import layout
from aiaas_async.nn.losses import cross_entropy
from aiaas_async.nn.network import Network
from aiaas_async.runtimes.base import Artifact, Differentiable
from aiaas_async.runtimes.layers import LayersModel, LayersRuntime
from tests.runtimes.artifacts import BARE, GRAPH, artifact, network, params, rows


def load(given: Artifact) -> LayersModel:
    model = LayersRuntime().load(given)
    assert isinstance(model, LayersModel)
    return model


def test_inspection_and_loading_agree_and_read_what_the_graph_says(tmp_path: Path) -> None:
    given = artifact(tmp_path)
    found, model = LayersRuntime().inspect(given), load(given)
    assert (found.inputs, found.outputs) == (model.inputs, model.outputs)
    assert [spec.name for spec in found.outputs] == ["label", "probabilities"]
    assert found.nbytes == model.nbytes == given.files["model.safetensors"].stat().st_size


def test_predictions_are_the_network_s_own_on_mapped_weights(tmp_path: Path) -> None:
    model, x = load(artifact(tmp_path)), rows(6)
    found = model.predict({"x": x}, None)
    expected = network().predict(params(), {"x": x})
    assert found["label"].tolist() == expected["label"].tolist()
    np.testing.assert_array_equal(found["probabilities"], expected["probabilities"])
    assert list(model.predict({"x": x}, ["label"])) == ["label"]
    assert not any(array.flags.owndata for array in model.params.values())
    assert isinstance(model, Differentiable)
    model.close()


def test_the_graph_may_come_as_a_file_but_not_as_two_that_differ(tmp_path: Path) -> None:
    given, path = artifact(tmp_path), tmp_path / "g"
    path.write_text(json.dumps(GRAPH))
    with_file = {**given.files, "graph.json": path}
    assert load(Artifact(with_file)).inputs == load(given).inputs
    assert load(Artifact(with_file, GRAPH)).inputs == load(given).inputs
    other = {**GRAPH, "outputs": ["label"]}
    with pytest.raises(ArtifactError, match="differ; give one"):
        load(Artifact(with_file, other))
    with pytest.raises(ArtifactError, match="there is no layer graph"):
        load(replace(given, graph=None))
    with pytest.raises(GraphError, match="must be a list"):
        load(replace(given, graph={}))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_served_as_float32(tmp_path: Path, dtype: Any) -> None:
    tensors = {name: array.astype(dtype) for name, array in params().items()}
    model = load(artifact(tmp_path, tensors))
    assert {array.dtype for array in model.params.values()} == {np.dtype(np.float32)}
    expected = {name: array.astype(np.float32) for name, array in tensors.items()}
    np.testing.assert_array_equal(
        model.predict({"x": rows(2)}, None)["probabilities"],
        network().predict(expected, {"x": rows(2)})["probabilities"],
    )
    count = network().parameter_count
    assert model.nbytes == (tmp_path / "0a1b").stat().st_size + 4 * count


def test_weights_must_be_the_graph_s_and_in_one_file(tmp_path: Path) -> None:
    good = params()
    cases: list[tuple[dict[str, Any], str]] = [
        ({n: a for n, a in good.items() if n != "hidden.bias"}, r"missing \['hidden.bias'\]"),
        (good | {"more": np.ones(1, np.float32)}, r"unknown \['more'\]"),
        (good | {"hidden.bias": np.ones(6, np.float32)}, r"float32 \[6\]; the graph has"),
        (good | {"hidden.bias": np.ones(5, np.int32)}, "dtype I32; possible: F32"),
    ]
    for tensors, reason in cases:
        for use in (LayersRuntime().inspect, load):
            with pytest.raises(ArtifactError, match=reason):
                use(artifact(tmp_path, tensors))
    given = artifact(tmp_path)
    path = given.files["model.safetensors"]
    two = Artifact({"a.safetensors": path, "b.safetensors": path}, GRAPH)
    with pytest.raises(ArtifactError, match=r"one \.safetensors file expected, got 2"):
        load(two)
    with pytest.raises(ArtifactError, match="the graph has 43 parameters but"):
        load(Artifact({}, GRAPH))


def test_a_graph_without_parameters_needs_no_weights(tmp_path: Path) -> None:
    model = load(Artifact({}, BARE))
    assert model.nbytes == 0
    np.testing.assert_array_equal(model.predict({"x": rows(2)}, None)["doubled"], 2 * rows(2))
    write_tensors(tmp_path / "empty", {})
    load(Artifact({"a.safetensors": tmp_path / "empty"}, BARE))


def test_wrong_inputs_and_outputs_are_named(tmp_path: Path) -> None:
    model = load(artifact(tmp_path))
    with pytest.raises(InputError, match="no output 'lable'; did you mean 'label'"):
        model.predict({"x": rows(1)}, ["lable"])
    with pytest.raises(InputError, match="no output 'logits'"):
        model.predict({"x": rows(1)}, ["logits"])  # a layer, but not promised
    with pytest.raises(InputError, match="'x' is missing"):
        model.predict({}, None)
    with pytest.raises(InputError, match="no input 'y'"):
        model.predict({"x": rows(1), "y": rows(1)}, None)
    with pytest.raises(InputError, match=r"must be \[N, 4\]"):
        model.predict({"x": rows(1)[:, :3]}, None)


def test_the_loss_defaults_to_what_the_graph_decides_upon(tmp_path: Path) -> None:
    model, x, labels = load(artifact(tmp_path)), rows(5), np.array([0, 1, 2, 1, 0])
    logits = network().predict(params(), {"x": x}, ["logits"])["logits"]
    expected, _ = cross_entropy(logits, labels)
    assert model.loss({"x": x}, {"anything": labels}, None, None) == expected
    assert model.loss({"x": x}, {"label": labels}, None, "probabilities") == expected
    assert model.loss({"x": x}, {"t": labels}, "cross_entropy", "logits") == expected
    with pytest.raises(InvalidError, match="'mze' is not known; did you mean 'mse'"):
        model.loss({"x": x}, {"t": labels}, "mze", None)
    with pytest.raises(InvalidError, match="'logit' is not a layer; did you mean 'logits'"):
        model.loss({"x": x}, {"t": labels}, None, "logit")
    with pytest.raises(InputError, match="one array of targets expected"):
        model.loss({"x": x}, {}, None, None)
    with pytest.raises(InputError, match=r"also given: \['t'\]"):
        model.loss({"x": x}, {"t": labels, "logits": labels}, None, None)


def test_gradients_follow_what_is_asked_and_match_a_small_step(tmp_path: Path) -> None:
    model, x, labels = load(artifact(tmp_path)), rows(5), np.array([0, 1, 2, 1, 0])
    value, by_input, by_parameter = model.gradient({"x": x}, {"t": labels}, None, None, "both")
    assert value == model.loss({"x": x}, {"t": labels}, None, None)
    assert set(by_parameter) == set(params())
    assert model.gradient({"x": x}, {"t": labels}, None, None, "inputs")[2] == {}
    assert model.gradient({"x": x}, {"t": labels}, None, None, "parameters")[1] == {}
    step = 1e-2 * by_input["x"] / np.linalg.norm(by_input["x"])
    slope = model.loss({"x": x + step}, {"t": labels}, None, None) - value
    assert slope == pytest.approx(1e-2 * np.linalg.norm(by_input["x"]), rel=0.05)


def test_targets_of_one_number_an_item_fit_an_output_of_one(tmp_path: Path) -> None:
    graph = {**BARE, "layers": [{"name": "y", "op": "dense", "units": 1}], "outputs": ["y"]}
    write_tensors(tmp_path / "w", {"y.weight": np.ones((4, 1), "f4"), "y.bias": np.zeros(1, "f4")})
    model = load(Artifact({"w.safetensors": tmp_path / "w"}, graph))
    x = rows(3)
    assert model.loss({"x": x}, {"y": x.sum(1)}, None, None) == pytest.approx(0.0, abs=1e-12)


def wide() -> Network:
    layers = [{"name": "wide", "op": "dense", "units": 1024}]
    inputs = [{"name": "x", "dtype": "float32", "shape": [1024]}]
    return Network.from_spec({"inputs": inputs, "layers": layers, "outputs": ["wide"]})


@pytest.mark.parametrize(("dtype", "times"), [(np.float32, 1.0), (np.float16, 2.5)])
def test_weights_that_are_laid_out_are_mapped_and_those_of_the_file_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any, times: float
) -> None:
    monkeypatch.setattr(layout, "takes_as_it_lies", lambda: True)
    weights, path = wide().init(1), tmp_path / "w"
    write_tensors(path, {name: array.astype(dtype) for name, array in weights.items()})
    plain = Artifact({"w.safetensors": path}, wide().to_spec())
    given = replace(plain, laid_out=tmp_path / "panels")
    assert LayersRuntime().lay_out(plain, tmp_path / "panels")
    model = load(given)
    assert abs(model.nbytes - times * weights["wide.weight"].nbytes) < 16384
    assert resident(path) < 16384
    assert not model.predictor_params["wide.weight"].flags.owndata
    assert load(plain).predictor_params["wide.weight"].ndim == 2  # a copy in each worker is none
    x = np.random.default_rng(2).random((3, 1024), np.float32)
    expected = load(plain).predict({"x": x}, None)
    found = model.predict({"x": x}, None)
    np.testing.assert_allclose(found["wide"], expected["wide"], rtol=1e-3, atol=1e-3)
    loss, _, slopes = model.gradient({"x": x}, {"wide": x}, "mse", None, "parameters")
    assert loss > 0
    assert slopes["wide.weight"].shape == (1024, 1024)


def test_where_nothing_is_faster_otherwise_no_layout_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "takes_as_it_lies", lambda: False)
    write_tensors(tmp_path / "w", wide().init(1))
    given = Artifact({"w.safetensors": tmp_path / "w"}, wide().to_spec())
    assert not LayersRuntime().lay_out(given, tmp_path / "panels")
    assert not (tmp_path / "panels").exists()


def resident(path: Path) -> int:
    """Bytes of a mapped file that are in this process's memory."""
    entries = Path("/proc/self/smaps").read_text().split("VmFlags")
    mine = [entry for entry in entries if str(path) in entry]
    return sum(
        int(line.split()[1]) * 1024 for e in mine for line in e.splitlines() if "Rss" in line
    )
