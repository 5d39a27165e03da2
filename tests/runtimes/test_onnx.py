"""The onnx runtime serves what the file says, batched as the file allows, and nothing outside
the artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from aiaas_async.errors import ArtifactError, InputError, MemoryBudgetError
from aiaas_async.messages import TensorSpec
from aiaas_async.runtimes.base import Artifact, Differentiable
from aiaas_async.runtimes.onnx import OnnxModel, OnnxRuntime
from aiaas_async.runtimes.onnxerrors import told
from tests.runtimes.onnxmodels import (
    BIAS,
    FLOAT,
    INT64,
    STRING,
    WEIGHT,
    artifact,
    linear,
    linear_with_bias_in,
    model,
    rows,
    stored,
    value,
    weight_in,
)


def load(folder: Path, given: ModelProto | bytes, **outside: Any) -> OnnxModel:
    return OnnxRuntime().load(artifact(folder, given, **outside))


def one_node(op: str, *, dtype: int = FLOAT, shape: Any = ("N", 3), **more: Any) -> ModelProto:
    """y = op(x)."""
    node = helper.make_node(op, ["x"], ["y"], **more)
    return model([node], [value("x", dtype, shape)], [value("y", dtype, None)])


def test_the_signature_comes_from_the_file_and_the_batch_is_left_out(tmp_path: Path) -> None:
    given = artifact(tmp_path, linear())
    found, loaded = OnnxRuntime().inspect(given), OnnxRuntime().load(given)
    assert found.inputs == loaded.inputs == (TensorSpec("x", "float32", (3,)),)
    assert found.outputs == (TensorSpec("label", "int64", ()), TensorSpec("y", "float32", (2,)))
    assert found.outputs == loaded.outputs
    assert found.nbytes == loaded.nbytes == given.files["model.onnx"].stat().st_size
    assert not isinstance(loaded, Differentiable)
    assert load(tmp_path, one_node("Relu", shape=("N", 0, "K", 3))).inputs[0].shape == (0, -1, 3)
    loaded.close()


@pytest.mark.parametrize("batch", ["N", -1, None, 1])
def test_a_batch_gives_what_the_model_computes_whatever_it_says_of_batches(
    tmp_path: Path, batch: Any
) -> None:
    loaded, x = load(tmp_path, linear(batch)), rows(5)
    found = loaded.predict({"x": x}, None)
    np.testing.assert_allclose(found["y"], x @ WEIGHT + BIAS, rtol=1e-5)
    assert found["label"].tolist() == (x @ WEIGHT + BIAS).argmax(1).tolist()
    assert list(loaded.predict({"x": x}, ["label"])) == ["label"]


def test_a_fixed_batch_of_several_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"shape \[8, 3\].* export the model with a dynamic"):
        load(tmp_path, linear(8))


def test_values_without_a_batch_dimension_are_taken_item_by_item(tmp_path: Path) -> None:
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    made = model([node], [value("x"), value("factor", FLOAT, ())], [value("y")])
    loaded, x = load(tmp_path, made), rows(4)
    assert loaded.inputs[1] == TensorSpec("factor", "float32", ())
    factors = np.arange(4, dtype=np.float32)
    found = loaded.predict({"x": x, "factor": factors}, None)["y"]
    np.testing.assert_array_equal(found, x * factors[:, None])


def test_a_sum_over_the_batch_is_computed_for_each_item(tmp_path: Path) -> None:
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    loaded = load(tmp_path, model([node], [value("x")], [value("y", FLOAT, ())]))
    x = rows(4)
    np.testing.assert_allclose(loaded.predict({"x": x}, None)["y"], x.sum(1), rtol=1e-5)
    with pytest.raises(InputError, match="the batch is empty"):
        loaded.predict({"x": x[:0]}, None)


def test_items_whose_outputs_differ_in_shape_make_no_batch(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["at"]),
        helper.make_node("Unsqueeze", ["at", "first"], ["y"]),
    ]
    constants = {"first": np.array([0])}
    outputs = [value("y", INT64, (1, 2, "K"))]
    loaded = load(tmp_path, model(nodes, [value("x", FLOAT, (1, 3))], outputs, constants))
    x = np.array([[1, 0, 0], [1, 1, 0]], np.float32)
    assert loaded.predict({"x": x[1:]}, None)["y"].tolist() == [[[0, 0], [0, 1]]]
    with pytest.raises(InputError, match=r"another shape for each of these items.*one by one"):
        loaded.predict({"x": x}, None)


def test_several_inputs_must_agree_in_rows_and_with_their_types(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "z"], ["y"])
    inputs = [value("x", FLOAT, ("N", "K")), value("z", FLOAT, ("M", "L"))]
    loaded = load(tmp_path, model([node], inputs, [value("y", FLOAT, None)]))
    x = rows(2)
    np.testing.assert_array_equal(loaded.predict({"x": x, "z": x}, None)["y"], 2 * x)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"x": x}, "'z' is missing"),
        ({"x": x, "z": x, "zz": x}, "no input 'zz'; did you mean 'z'"),
        ({"x": x, "z": rows(1)}, "differ in their number of rows"),
        ({"x": x.astype(np.float64), "z": x}, r"must be float32 \[N, any\], got float64 \[2, 3\]"),
        ({"x": x[0], "z": x}, r"must be float32 \[N, any\], got float32 \[3\]"),
        ({"x": x[:, :2], "z": x}, "cannot run on these inputs.*2 by 3"),
    ]
    for given, reason in cases:
        with pytest.raises(InputError, match=reason):
            loaded.predict(given, None)
    with pytest.raises(InputError, match="no output 'yy'; did you mean 'y'"):
        loaded.predict({"x": x, "z": x}, ["yy"])


def test_strings_go_in_and_come_out_as_text(tmp_path: Path) -> None:
    loaded = load(tmp_path, one_node("Identity", dtype=STRING))
    assert loaded.inputs == (TensorSpec("x", "string", (3,)),)
    x = np.array([["a", "", "né€😀"], ["longer than the others", "b", "c"]])
    found = loaded.predict({"x": x}, None)["y"]
    assert found.dtype.kind == "U"
    np.testing.assert_array_equal(found, x)
    empty = loaded.predict({"x": x[:0]}, None)["y"]
    assert empty.shape == (0, 3)
    assert empty.dtype.kind == "U"


def test_strings_that_are_wide_and_many_are_refused_before_they_fill_memory(
    tmp_path: Path,
) -> None:
    constants = {"long": np.array(["x" * 40_000], object)}
    nodes = [helper.make_node("Concat", ["x", "long"], ["y"], axis=0)]
    outputs = [value("y", STRING, ("M",))]
    loaded = load(tmp_path, model(nodes, [value("x", STRING, ("N",))], outputs, constants))
    assert len(loaded.predict({"x": np.array(["a"])}, None)["y"]) == 2
    with pytest.raises(InputError, match="up to 40000 characters are too large together"):
        loaded.predict({"x": np.array(["a"] * 1000)}, None)


def test_bytes_that_are_no_text_are_an_error_of_that_call(tmp_path: Path) -> None:
    made = model(
        [helper.make_node("Identity", ["k"], ["y"])],
        [value("x", FLOAT, (1, 1))],
        [value("y", STRING, (1,))],
        {"k": np.array([b"\xff\xfe"], object)},
    )
    loaded = load(tmp_path, made)
    with pytest.raises(InputError, match="utf-8"):
        loaded.predict({"x": np.zeros((1, 1), np.float32)}, None)


@pytest.mark.parametrize("dtype", ["BOOL", "UINT8", "INT8", "INT32", "FLOAT16", "DOUBLE"])
def test_every_listed_dtype_passes_through(tmp_path: Path, dtype: str) -> None:
    loaded = load(tmp_path, one_node("Identity", dtype=getattr(TensorProto, dtype)))
    spec = loaded.inputs[0]
    x = np.ones((2, 3), spec.dtype)
    found = loaded.predict({"x": x}, None)["y"]
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found, x)


def test_types_that_cannot_be_served_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"input 'x' is 'tensor\(bfloat16\)'"):
        load(tmp_path, one_node("Identity", dtype=TensorProto.BFLOAT16))
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    sequence = helper.make_tensor_sequence_value_info("y", FLOAT, ("N", 3))
    with pytest.raises(ArtifactError, match=r"output 'y' is 'seq\(tensor\(float\)\)'"):
        load(tmp_path, model([node], [value("x")], [sequence]))


def test_an_input_without_a_shape_is_refused_and_such_an_output_is_left_open(
    tmp_path: Path,
) -> None:
    with pytest.raises(ArtifactError, match="input 'x' declares no shape"):
        load(tmp_path, one_node("Relu", shape=None))
    node = helper.make_node("Reshape", ["x", "s"], ["y"])
    inputs = [value("x"), value("s", INT64, ("K",))]
    loaded = load(tmp_path, model([node], inputs, [value("y", FLOAT, None)]))
    assert loaded.outputs == (TensorSpec("y", "float32", None),)


def test_names_that_the_platform_cannot_carry_are_refused(tmp_path: Path) -> None:
    made = model(
        [helper.make_node("Relu", ["x" * 65], ["y"])], [value("x" * 65)], [value("y", FLOAT, None)]
    )
    with pytest.raises(ArtifactError, match="is not a tensor name"):
        load(tmp_path, made)


def test_a_weight_that_is_declared_as_an_input_as_well_is_not_asked_for(tmp_path: Path) -> None:
    made = linear()
    made.graph.input.append(value("b", FLOAT, (2,)))
    loaded = load(tmp_path, made)
    assert [spec.name for spec in loaded.inputs] == ["x"]
    np.testing.assert_allclose(
        loaded.predict({"x": rows(2)}, ["y"])["y"], rows(2) @ WEIGHT + BIAS, rtol=1e-5
    )


def test_names_that_are_no_text_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    node = helper.make_node("Relu", ["input"], ["y"])
    made = model([node], [value("input", FLOAT, ("batch", 3))], [value("y", FLOAT, None)])
    for name in (b"input", b"batch"):
        data = made.SerializeToString().replace(name, b"\xff" * len(name))
        with pytest.raises(ArtifactError):
            load(tmp_path, data)
    assert capfd.readouterr() == ("", "")


def test_weights_outside_the_model_are_read_from_the_artifact_s_own_files(tmp_path: Path) -> None:
    padded = np.concatenate([np.zeros(16, np.float32), BIAS])
    made = linear_with_bias_in("data/b.bin", offset="64", length="8")
    given = artifact(tmp_path, made)
    path = stored(tmp_path, padded.tobytes(), "2c3d")
    loaded = OnnxRuntime().load(Artifact({**given.files, "data/b.bin": path}))
    path.unlink()  # nothing of the file is needed once it is loaded
    np.testing.assert_allclose(
        loaded.predict({"x": rows(3)}, None)["y"], rows(3) @ WEIGHT + BIAS, rtol=1e-5
    )
    assert loaded.nbytes == given.files["model.onnx"].stat().st_size + padded.nbytes


@pytest.mark.parametrize(
    "location",
    ["/etc/passwd", "../0c2d", "0c2d", "./b.bin", "B.bin", "b.bin/", "data/../b.bin", "", "b\\bin"],
)
def test_a_file_that_is_not_the_artifact_s_is_never_read(tmp_path: Path, location: str) -> None:
    made = linear_with_bias_in(location)
    with pytest.raises(ArtifactError, match="which the artifact does not have"):
        load(tmp_path, made, b__bin=BIAS)  # stored as 0c2d, right beside the model


@pytest.mark.parametrize("mark", ["*/_ORT_MEM_ADDR_/*", "*/_ORT_LITTLE_ENDIAN_MEM_ADDR_/*"])
def test_a_memory_address_is_no_file_even_if_a_file_is_called_so(tmp_path: Path, mark: str) -> None:
    secret = BIAS.copy()
    made = linear_with_bias_in(mark, offset=str(secret.ctypes.data), length="8")
    given = artifact(tmp_path, made)
    path = stored(tmp_path, BIAS.tobytes(), "2c3d")
    with pytest.raises(ArtifactError, match="only the weights of the outermost graph"):
        OnnxRuntime().load(Artifact({**given.files, mark: path}))


def test_only_weights_may_lie_outside(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["k"], value=weight_in("b.bin", "k"))
    add = helper.make_node("Add", ["x", "k"], ["y"])
    shape = ("N", 2)
    made = model([constant, add], [value("x", FLOAT, shape)], [value("y", FLOAT, shape)])
    with pytest.raises(ArtifactError, match="only the weights of the outermost graph"):
        load(tmp_path, made, b__bin=BIAS)


def test_the_artifact_is_one_model_and_the_files_it_names(tmp_path: Path) -> None:
    path = stored(tmp_path, linear())
    cases: list[tuple[Artifact, str]] = [
        (Artifact({}), "one .onnx file expected, got 0"),
        (Artifact({"model.bin": path}), r"got 0: \['model.bin'\]"),
        (Artifact({"a.onnx": path, "b.onnx": path}), r"got 2: \['a.onnx', 'b.onnx'\]"),
        (Artifact({"a.onnx": path, "labels.txt": path}), r"not refer to \['labels.txt'\]"),
        (Artifact({"a.onnx": path}, {"layers": []}), "takes no 'graph'"),
        (Artifact({"a.onnx": tmp_path / "absent"}), "'a.onnx' cannot be read"),
        (Artifact({"a.onnx": stored(tmp_path, b"", "empty")}), "'a.onnx' is empty"),
    ]
    for given, reason in cases:
        for use in (OnnxRuntime().inspect, OnnxRuntime().load):
            with pytest.raises(ArtifactError, match=reason):
                use(given)


@pytest.mark.parametrize(("content", "offset"), [(b"", "0"), (b"1234", "0"), (b"12345678", "4")])
def test_weights_that_do_not_fill_their_tensor_are_refused(
    tmp_path: Path, content: bytes, offset: str
) -> None:
    with pytest.raises(ArtifactError):
        load(tmp_path, linear_with_bias_in("b.bin", offset=offset), b__bin=content)


def test_what_onnxruntime_says_is_told_without_paths_and_not_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ArtifactError, match="No Op registered for Nope") as caught:
        load(tmp_path, one_node("Nope", name="/my/node\x1b[31m"))
    assert str(tmp_path) not in caught.value.message
    assert "/my/node" in caught.value.message
    assert "\x1b" not in caught.value.message
    assert "ONNXRuntimeError" not in caught.value.message
    loaded = load(tmp_path, model(*_lookup()))
    with pytest.raises(InputError, match="indices element out of data bounds, idx=9") as failed:
        loaded.predict({"x": np.array([9])}, None)
    assert "onnxruntime_src" not in failed.value.message
    assert capfd.readouterr() == ("", "")


def _lookup() -> tuple[Any, ...]:
    """y = table[x]."""
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    inputs, outputs = [value("x", INT64, ("N",))], [value("y", FLOAT, ("N",))]
    return [node], inputs, outputs, {"table": np.ones(4, np.float32)}


def test_a_session_spins_on_no_core_and_takes_no_other_format(tmp_path: Path) -> None:
    session = load(tmp_path, linear()).session
    assert session is not None
    options = session.get_session_options()
    for key, expected in (
        ("session.intra_op.allow_spinning", "0"),
        ("session.inter_op.allow_spinning", "0"),
        ("session.load_model_format", "ONNX"),
    ):
        assert options.get_session_config_entry(key) == expected
    assert options.inter_op_num_threads == 1


def test_several_rows_for_one_item_are_no_answer(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["at"]),
        helper.make_node("Transpose", ["at"], ["y"]),
    ]
    outputs = [value("y", INT64, ("K", 2))]
    loaded = load(tmp_path, model(nodes, [value("x", FLOAT, (1, 3))], outputs))
    one, two = np.array([[0, 5, 0]], np.float32), np.array([[5, 5, 0]], np.float32)
    assert loaded.predict({"x": one}, None)["y"].tolist() == [[0, 1]]
    with pytest.raises(ArtifactError, match=r"shape \[2, 2\] for one item"):
        loaded.predict({"x": two}, None)


def test_neither_the_file_nor_its_folder_is_told() -> None:
    path = Path("/srv/data/artifacts/0a/0a1b")
    error = told(ValueError(f"{path}, and {path.parent}/w"), "no", ArtifactError, path)
    assert error.message == "no: 'it, and its folder/w'"


def test_a_tensor_beyond_memory_is_an_error_of_that_call(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    inputs = [value("x"), value("s", INT64, (1, 2))]
    nodes.insert(0, helper.make_node("Reshape", ["s", "flat"], ["t"]))
    nodes[1] = helper.make_node("ConstantOfShape", ["t"], ["big"])
    loaded = load(tmp_path, model(nodes, inputs, [value("y")], {"flat": np.array([-1])}))
    x = rows(1)
    with pytest.raises(MemoryBudgetError, match="more memory than its worker"):
        loaded.predict({"x": x, "s": np.array([[2**24, 2**24]])}, None)
    found = loaded.predict({"x": x, "s": np.array([[2, 2]])}, None)["y"]
    np.testing.assert_array_equal(found, x)
