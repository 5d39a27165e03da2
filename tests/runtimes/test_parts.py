"""A worker loads a part of a model like any model, and only that part's bytes."""

from __future__ import annotations

import mmap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiaas_async.errors import ArtifactError, InvalidError
from aiaas_async.formats.safetensors import map_tensors, write_tensors
from aiaas_async.nn import layout
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from aiaas_async.nn.shards import tensor_shards
from aiaas_async.nn.submodel import Part, Slice, Submodel
from aiaas_async.runtimes.base import Artifact, Differentiable
from aiaas_async.runtimes.layers import LayersPredictor, LayersRuntime
from tests.formats.test_safetensors import entry, file_of
from tests.nn.graphs import cut, even
from tests.runtimes.artifacts import BARE, GRAPH, artifact, network, params, rows


def load(given: Artifact, part: Part) -> LayersPredictor:
    wanted = replace(given, graph=None, part=part.to_data())
    found, model = LayersRuntime().inspect(wanted), LayersRuntime().load(wanted)
    assert (found.inputs, found.outputs) == (model.inputs, model.outputs)
    assert found.nbytes == model.nbytes
    return model


def stages(n: int) -> tuple[Submodel, ...]:
    return cut(network(), even(network()), n)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_stages_loaded_one_by_one_give_the_whole_model_s_bits(tmp_path: Path, n: int) -> None:
    given = artifact(tmp_path)
    values = {"x": rows(6)}
    expected = LayersRuntime().load(given).predict(values, None)
    total = 0
    for stage in stages(n):
        model = load(given, stage.part)
        values |= model.predict({name: values[name] for name in stage.inputs}, None)
        assert model.nbytes == sum(array.nbytes for array in model.predictor_params.values())
        total += model.nbytes
    assert values["label"].tolist() == expected["label"].tolist()
    np.testing.assert_array_equal(values["probabilities"], expected["probabilities"])
    assert total == 4 * network().parameter_count


def test_a_shard_s_slices_are_the_file_s_numbers(tmp_path: Path) -> None:
    given, whole = artifact(tmp_path), params()
    for shard in tensor_shards(network(), 2).shards:
        loaded = load(given, shard.part).predictor_params
        assert loaded.keys() == set(shard.parameters)
        for name, array in loaded.items():
            cut = shard.part.slices.get(name, Slice(0, 0, len(whole[name])))
            at = (*(slice(None),) * cut.axis, slice(cut.start, cut.stop))
            np.testing.assert_array_equal(array, whole[name][at])
            assert array.flags.c_contiguous


def test_a_part_has_no_losses(tmp_path: Path) -> None:
    model = load(artifact(tmp_path), stages(2)[0].part)
    assert not isinstance(model, Differentiable)


def test_large_weights_of_a_part_are_laid_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "takes_as_it_lies", lambda: True)
    layers = [{"name": f"d{i}", "op": "dense", "units": 1024} for i in range(2)]
    inputs = [{"name": "x", "dtype": "float32", "shape": [1024]}]
    wide = Network.from_spec({"inputs": inputs, "layers": layers, "outputs": ["d1"]})
    write_tensors(tmp_path / "w", wide.init(1))
    for shard in tensor_shards(wide, 2).shards:
        model = load(Artifact({"w.safetensors": tmp_path / "w"}), shard.part)
        assert {model.predictor_params[f"d{i}.weight"].ndim for i in range(2)} == {3}


def map_under(array: Array) -> object:
    """What the array is a view of in the end."""
    base: Any = array
    while getattr(base, "base", None) is not None:
        base = base.base
    return base


def test_rows_are_mapped_and_columns_are_copied(tmp_path: Path) -> None:
    given = artifact(tmp_path)
    shard = tensor_shards(network(), 2).shards[1]
    loaded = load(given, shard.part).predictor_params
    assert shard.part.slices["logits.weight"].axis == 0
    assert isinstance(map_under(loaded["logits.weight"]), mmap.mmap)
    assert shard.part.slices["hidden.weight"].axis == 1
    assert not isinstance(map_under(loaded["hidden.weight"]), mmap.mmap)


def test_no_more_of_the_file_is_mapped_than_the_part_s_own_bytes(tmp_path: Path) -> None:
    units, page = 480, mmap.PAGESIZE  # too few for panels, which are copies
    layers = [{"name": f"d{i}", "op": "dense", "units": units} for i in range(4)]
    inputs = [{"name": "x", "dtype": "float32", "shape": [units]}]
    wide = Network.from_spec({"inputs": inputs, "layers": layers, "outputs": ["d3"]})
    path = tmp_path / "wide"
    write_tensors(path, wide.init(1))
    given = Artifact({"w.safetensors": path})
    first = cut(wide, even(wide), 2)[0]
    model = load(given, first.part)
    assert (
        first.nbytes <= mapped_bytes(path) <= first.nbytes + 2 * page * len(model.predictor_params)
    )
    model.close()
    assert mapped_bytes(path) == 0
    shard = tensor_shards(wide, 2).shards[1]
    by_rows = [name for name, cut in shard.part.slices.items() if cut.axis == 0]
    model = load(given, shard.part)
    rows_alone = sum(model.predictor_params[name].nbytes for name in by_rows)
    assert rows_alone <= mapped_bytes(path) <= rows_alone + 2 * page * len(by_rows)


def mapped_bytes(path: Path) -> int:
    """How much of a file this process maps."""
    found = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(f" {path}"):
            start, stop = line.split()[0].split("-")
            found += int(stop, 16) - int(start, 16)
    return found


@pytest.mark.parametrize("dtype", ["F16", "F64", "BF16"])
def test_other_floats_are_served_as_float32(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "w"
    if dtype == "BF16":
        entries, data = dict[str, Any](), b""
        for name, array in params().items():
            bits = (array.view(np.uint32) >> 16).astype("<u2").tobytes()
            entries[name] = entry("BF16", list(array.shape), len(data), len(data) + len(bits))
            data += bits
        path.write_bytes(file_of(entries, data))
    else:
        kind = np.float16 if dtype == "F16" else np.float64
        write_tensors(path, {name: array.astype(kind) for name, array in params().items()})
    whole = {n: np.asarray(a, np.float32) for n, a in map_tensors(path).tensors.items()}
    given = Artifact({"w.safetensors": path})
    for shard in (*tensor_shards(network(), 2).shards, *stages(2)):
        model = load(given, shard.part)
        for name, array in model.predictor_params.items():
            cut = shard.part.slices.get(name, Slice(0, 0, len(whole[name])))
            at = (*(slice(None),) * cut.axis, slice(cut.start, cut.stop))
            np.testing.assert_array_equal(array, whole[name][at])
        assert {array.dtype for array in model.predictor_params.values()} == {np.dtype(np.float32)}
        assert model.nbytes == sum(array.nbytes for array in model.predictor_params.values())


def test_a_part_without_parameters_needs_no_file() -> None:
    model = LayersRuntime().load(Artifact({}, part={"graph": BARE}))
    np.testing.assert_array_equal(model.predict({"x": rows(2)}, None)["doubled"], 2 * rows(2))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"graph": GRAPH, "slices": {"hidden.weight": [1, 0, 6]}}, r"\[4, 5\] has no entries 0 to 6"),
    ({"graph": GRAPH, "slices": {"hidden.weight": [2, 0, 1]}}, "along axis 2"),
    ({"graph": GRAPH, "slices": {"hidden.weight": [1, 3, 3]}}, "no entries 3 to 3"),
    ({"graph": GRAPH, "slices": {"hidden.weight": [1, 0, 4]}}, r"is \[4, 4\] in the file"),
    (
        {
            "graph": {
                **GRAPH,
                "layers": [{"name": "label", "op": "dense", "units": 2}],
                "outputs": ["label"],
            }
        },
        "the weights file has no 'label.weight'",
    ),
]


@pytest.mark.parametrize(("part", "reason"), BAD)
def test_a_part_that_the_file_does_not_hold_is_refused(
    tmp_path: Path, part: dict[str, Any], reason: str
) -> None:
    given = replace(artifact(tmp_path), graph=None, part=part)
    for use in (LayersRuntime().inspect, LayersRuntime().load):
        with pytest.raises(ArtifactError, match=reason):
            use(given)


def test_a_part_of_other_weights_or_none_is_refused(tmp_path: Path) -> None:
    integers = params() | {"hidden.bias": np.ones(5, np.int32)}
    given = replace(artifact(tmp_path, integers), part={"graph": GRAPH})
    with pytest.raises(ArtifactError, match="has dtype I32"):
        LayersRuntime().load(given)
    with pytest.raises(ArtifactError, match="there is no weights file"):
        LayersRuntime().inspect(Artifact({}, part={"graph": GRAPH}))
    with pytest.raises(InvalidError, match="a part of a model"):
        LayersRuntime().load(Artifact({}, part={"graph": 5}))
