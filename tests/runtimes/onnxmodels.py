"""ONNX models for the tests, made by the onnx package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from aiaas_async.runtimes.base import Array, Artifact

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def value(name: str, dtype: int = FLOAT, shape: Sequence[Any] | None = ("N", 3)) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: dict[str, Array] | None = None,
    **more: Any,
) -> ModelProto:
    weights = [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights, **more)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def stored(folder: Path, given: ModelProto | bytes, name: str = "0a1b") -> Path:
    """A file as the store keeps it: its label says what it is, not its path."""
    path = folder / name
    path.write_bytes(given if isinstance(given, bytes) else given.SerializeToString())
    return path


def artifact(folder: Path, given: ModelProto | bytes, **outside: bytes | Array) -> Artifact:
    """The model, and other files by label ("__" stands for ".", which Python names cannot have)."""
    files = {"model.onnx": stored(folder, given)}
    for number, (label, content) in enumerate(outside.items()):
        data = content if isinstance(content, bytes) else content.tobytes()
        files[label.replace("__", ".")] = stored(folder, data, f"{number}c2d")
    return Artifact(files)


def linear(batch: Any = "N", bias: Array | None = None) -> ModelProto:
    """y = x w + b, and the index of its largest."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"]),
        helper.make_node("Add", ["xw", "b"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [value("label", INT64, (batch,)), value("y", FLOAT, (batch, 2))]
    constants = {"w": WEIGHT, "b": BIAS if bias is None else bias}
    return model(nodes, [value("x", FLOAT, (batch, 3))], outputs, constants)


WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2) - 2
BIAS = np.array([5, -1], np.float32)


def rows(count: int) -> Array:
    return np.random.default_rng(3).standard_normal((count, 3)).astype(np.float32)


def weight_in(location: str, name: str = "b", **more: str) -> TensorProto:
    """A weight of two floats that lies in the file `location`."""
    tensor = TensorProto(name=name, data_type=FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    for key, said in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=said)
    return tensor


def linear_with_bias_in(location: str, **more: str) -> ModelProto:
    made = linear()
    del made.graph.initializer[1]
    made.graph.initializer.append(weight_in(location, **more))
    return made
