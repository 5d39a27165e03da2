"""EfficientNet-Lite0 without its batch norm, which all contenders fold away, as a table."""

from __future__ import annotations

from typing import Any

from aiaas_async.convert.lite0 import CLASSES, HEAD, SIZE, STEM, blocks

__all__ = ["CLASSES", "SIZE", "parameter_shapes", "spec"]


def parameter_shapes() -> dict[str, tuple[int, ...]]:
    """Every parameter of `spec` by name, in order."""
    found: dict[str, tuple[int, ...]] = {}
    channels = 3
    for layer in spec()["layers"]:
        op, name = layer["op"], layer["name"]
        if op == "depthwise_conv2d":
            found |= {f"{name}.weight": (*layer["kernel"], channels), f"{name}.bias": (channels,)}
        elif op in ("conv2d", "dense"):
            given, channels = channels, layer.get("filters") or layer["units"]
            kernel = layer.get("kernel", [])
            found |= {f"{name}.weight": (*kernel, given, channels), f"{name}.bias": (channels,)}
    return found


def spec() -> dict[str, Any]:
    """The network as a layer graph."""
    layers: list[dict[str, Any]] = []

    def add(op: str, **options: Any) -> str:
        layers.append({"name": f"{len(layers)}_{op}", "op": op, **options})
        return str(layers[-1]["name"])

    def pointwise(filters: int) -> str:
        return add("conv2d", filters=filters, kernel=[1, 1])

    add("conv2d", filters=STEM, kernel=[3, 3], stride=[2, 2])
    last = add("relu6")
    for given, expanded, out, stride, kernel in blocks():
        before = last
        if expanded != given:
            pointwise(expanded)
            add("relu6")
        add("depthwise_conv2d", kernel=[kernel, kernel], stride=[stride, stride])
        add("relu6")
        last = pointwise(out)
        if stride == 1 and given == out:
            last = add("add", inputs=[before, last])
    pointwise(HEAD)
    add("relu6")
    add("global_avg_pool")
    last = add("dense", units=CLASSES)
    inputs = [{"name": "image", "dtype": "float32", "shape": [SIZE, SIZE, 3]}]
    return {"inputs": inputs, "layers": layers, "outputs": [last]}
