"""onnxruntime on the CPU, one thread; it serves and does not train."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bench.contenders import lite0
from bench.contenders.data import Images, Labels, Work, drawn, run


def model() -> bytes:
    """The network of `lite0` as an ONNX model, images NCHW."""
    nodes: list[Any] = []
    constants = [
        numpy_helper.from_array(np.array(bound, np.float32), n) for n, bound in (("0", 0), ("6", 6))
    ]
    previous = "image"
    parameters = drawn(lite0.parameter_shapes())
    for layer in lite0.spec()["layers"]:
        name, op = layer["name"], layer["op"]
        given = [f"{name}.weight", f"{name}.bias"]
        if "conv2d" in op:
            inputs = [previous, *given]
            weight = parameters[given[0]]
            depthwise = weight.ndim == 3
            moved = (
                weight.transpose(2, 0, 1)[:, None] if depthwise else weight.transpose(3, 2, 0, 1)
            )
            parameters[given[0]] = np.ascontiguousarray(moved)
            options = {
                "auto_pad": "SAME_UPPER",
                "strides": layer.get("stride", [1, 1]),
                "group": len(moved) if depthwise else 1,
            }
            nodes.append(helper.make_node("Conv", inputs, [name], **options))
        elif op == "relu6":
            nodes.append(helper.make_node("Clip", [previous, "0", "6"], [name]))
        elif op == "add":
            nodes.append(helper.make_node("Add", layer["inputs"], [name]))
        elif op == "global_avg_pool":
            nodes.append(helper.make_node("GlobalAveragePool", [previous], [f"{name}.image"]))
            nodes.append(helper.make_node("Flatten", [f"{name}.image"], [name]))
        else:
            nodes.append(helper.make_node("Gemm", [previous, *given], [name]))
        previous = name
    constants += [numpy_helper.from_array(value, name) for name, value in parameters.items()]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 224, 224])
    scores = helper.make_tensor_value_info(previous, TensorProto.FLOAT, [1, lite0.CLASSES])
    graph = helper.make_graph(nodes, "lite0", [image], [scores], constants)
    opset = helper.make_opsetid("", 17)
    whole = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    found: bytes = whole.SerializeToString()
    return found


def predictor() -> Work:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model(), options, providers=["CPUExecutionProvider"])

    def predict(images: Images, labels: Labels) -> float:
        del labels
        x = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        for i in range(len(x)):
            (y,) = session.run(None, {"image": x[i : i + 1]})
        return float(y.mean())

    return predict


if __name__ == "__main__":
    run("onnxruntime", {"lite0": predictor})
