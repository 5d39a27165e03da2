"""The works of the comparison: which model, which body, how many connections, and the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime

from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.wire.codecs import MSGPACK
from bench.bodies import MODELS, graph

HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Work:
    """`least`: of our rate over the floor's (`of="rate"`), or the most of our p50 (`"p50"`).
    `times`: how often it is read in a round."""

    name: str
    model: str
    encoding: str
    connections: int = 16
    least: float | None = None
    of: str = "rate"
    times: int = 1


WORKS = (
    Work("small, JSON", "small", "json", least=0.78),
    Work("small, binary", "small", "binary", least=0.70),
    Work("image, binary", "image", "binary", least=0.80),
    Work("image, JSON lists", "image", "json", least=2.6),
    Work("4x4096, 32 at once", "large", "binary", 32),
    # What is bound by memory: on a shared machine two cores read 33 GB/s, and 55 for some seconds.
    Work("4x4096, alone", "large", "binary", 1, least=1.1, of="p50", times=4),
    Work("Lite0, onnxruntime", "lite0", "binary", least=1.2),
)
_SHAPES = {
    "small": (784,),
    "image": (3, 224, 224),
    "large": (4096,),
    "lite0": (3, 224, 224),
}
_WIDTH, _DEPTH = 4096, 4


def item(model: str) -> Any:
    return np.random.default_rng(1).standard_normal((1, *_SHAPES[model])).astype(np.float32)


def weights_of(model: str) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    if model == "small":
        drawn = MODELS["small"].draw()
        return [(drawn[f"{n}.weight"], drawn[f"{n}.bias"]) for n in ("h", "y")]
    scale = np.float32((2 / _WIDTH) ** 0.5)
    return [
        (rng.standard_normal((_WIDTH, _WIDTH), np.float32) * scale, np.zeros(_WIDTH, np.float32))
        for _ in range(_DEPTH)
    ]


def write_files(folder: Path) -> None:
    """Weights for the peers (`.npz`) and for us (a folder a model); `lite0.onnx` is there."""
    for model in ("small", "large"):
        pairs = weights_of(model)
        arrays = {
            f"{k}{i}": v for i, pair in enumerate(pairs) for k, v in zip("wb", pair, strict=True)
        }
        np.savez(folder / f"{model}.npz", **arrays)
        _ours(folder / "ours" / model, _SHAPES[model], pairs)
    image = folder / "ours" / "image"
    image.mkdir(parents=True, exist_ok=True)
    (image / "graph.json").write_bytes(msgspec.json.encode(MODELS["image"].graph))
    for model in _SHAPES:
        for encoding in ("json", "binary", "msgpack"):
            _write_body(folder, model, encoding)


def _ours(folder: Path, shape: tuple[int, ...], pairs: list[tuple[Any, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    layers: list[dict[str, Any]] = []
    weights: dict[str, Any] = {}
    for i, (weight, bias) in enumerate(pairs):
        last = i == len(pairs) - 1
        name = "y" if last else f"d{i}"
        layers.append({"name": name, "op": "dense", "units": weight.shape[1]})
        if not last:
            layers.append({"name": f"r{i}", "op": "relu"})
        weights |= {f"{name}.weight": weight, f"{name}.bias": bias}
    (folder / "graph.json").write_bytes(msgspec.json.encode(graph(shape, *layers)))
    write_tensors(folder / "weights.safetensors", weights)


def body(model: str, encoding: str) -> tuple[bytes, dict[str, str]]:
    """One request of one item, and its headers."""
    x = item(model)
    if encoding == "msgpack":
        call = {"model": model, "inputs": {"x": x[0]}}
        return MSGPACK.encode(call), {"Content-Type": "application/msgpack"}
    tensor: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": list(x.shape)}
    if encoding == "json":
        tensor["data"] = x.tolist()
        return json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"}
    tensor["parameters"] = {"binary_data_size": x.nbytes}
    asked = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    header = json.dumps(asked).encode()
    return header + x.tobytes(), {
        "Content-Type": "application/octet-stream",
        HEADER: str(len(header)),
    }


def _write_body(folder: Path, model: str, encoding: str) -> None:
    content, headers = body(model, encoding)
    path = folder / f"{model}.{encoding}"
    path.write_bytes(content)
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    script(folder, model, encoding).write_text(
        f'local file = io.open("{path}", "rb")\n'
        'wrk.method = "POST"\nwrk.body = file:read("*all")\n' + "\n".join(lines) + "\n"
    )


def script(folder: Path, model: str, encoding: str) -> Path:
    return folder / f"{model}.{encoding}.lua"


def answer(content: bytes, headers: Callable[[str], str | None], encoding: str) -> Any:
    """The output of a reply, [outputs] float32."""
    if encoding == "msgpack":
        return np.frombuffer(MSGPACK.decode(content)["outputs"]["y"]["data"], np.float32)
    length = headers(HEADER)
    if length is None:
        return np.array(json.loads(content)["outputs"][0]["data"], np.float32).ravel()
    return np.frombuffer(content, np.float32, offset=int(length))


def expected(folder: Path, model: str) -> Any:
    """What numpy and onnxruntime answer here to the item, [outputs] float32."""
    x = item(model)
    if model == "image":
        return x.mean(axis=(1, 2)).ravel()
    if model == "lite0":
        session = onnxruntime.InferenceSession(str(folder / "lite0.onnx"))
        return session.run(None, {"x": x})[0].ravel()
    pairs = weights_of(model)
    for i, (weight, bias) in enumerate(pairs):
        x = x @ weight + bias
        if i < len(pairs) - 1:
            x = np.maximum(x, 0)
    return x.ravel()
