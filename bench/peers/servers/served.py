"""The models of the comparison in numpy and onnxruntime, and the bodies of the V2 protocol.

Every peer's server imports this file from the folder it lies in, so it imports nothing of the
project. `BENCH_FOLDER` holds the weights, `BENCH_THREADS` bounds the threads of onnxruntime.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

try:  # PyTriton reads JSON itself and its environment has no need of orjson
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

Model = Callable[[Any], Any]

FOLDER = Path(os.environ["BENCH_FOLDER"])
NAMES = ("small", "image", "large", "lite0")
SHAPES = {
    "small": (784,),
    "image": (3, 224, 224),
    "large": (4096,),
    "lite0": (3, 224, 224),
}
OUTPUTS = {"small": 10, "image": 224, "large": 4096, "lite0": 1000}
# Requests worth sending together: those whose compute is dear beside their way.
BATCHED = ("large", "lite0")
MAX_BATCH = {"large": 32, "lite0": 8}


def load(name: str) -> Model:
    """The model called `name`: [n, …] float32 to [n, outputs] float32."""
    if name == "image":
        return lambda x: x.mean(
            axis=(1, 2)
        )  # a sum over whole rows, as a layer graph's NHWC has it
    if name == "lite0":
        return _onnx(FOLDER / "lite0.onnx")
    with np.load(FOLDER / f"{name}.npz") as file:
        layers = [(file[f"w{i}"], file[f"b{i}"]) for i in range(len(file.files) // 2)]
    return lambda x: _dense(layers, x)


def _dense(layers: list[tuple[Any, Any]], x: Any) -> Any:
    for weight, bias in layers[:-1]:
        x = x @ weight
        x += bias
        np.maximum(x, 0, out=x)
    weight, bias = layers[-1]
    x = x @ weight
    x += bias
    return x


def _onnx(path: Path) -> Model:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("BENCH_THREADS", "2"))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": np.ascontiguousarray(x)})[0]


def read(body: bytes, header_length: str | None) -> Any:
    """The one input of a V2 request, JSON or binary."""
    if header_length is None:
        tensor = orjson.loads(body)["inputs"][0]
        return np.array(tensor["data"], np.float32).reshape(tensor["shape"])
    length = int(header_length)
    tensor = json.loads(body[:length])["inputs"][0]
    return np.frombuffer(body, np.float32, offset=length).reshape(tensor["shape"])


def write(name: str, y: Any, binary: bool) -> tuple[bytes, dict[str, str]]:
    """The body and headers of a V2 reply."""
    output: dict[str, Any] = {"name": "y", "datatype": "FP32", "shape": list(y.shape)}
    reply = {"model_name": name, "outputs": [output]}
    if not binary:
        output["data"] = np.ascontiguousarray(y).ravel()
        body = orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)
        return body, {"Content-Type": "application/json"}
    output["parameters"] = {"binary_data_size": y.nbytes}
    header = json.dumps(reply).encode()
    return header + y.tobytes(), {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(header)),
    }


HEADER = "Inference-Header-Content-Length"
