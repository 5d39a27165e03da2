"""EfficientNet-Lite0 (Tan and Le 2019; its lite variant 2020), batch norm folded, as a table."""

from __future__ import annotations

from typing import Any, Final

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


def blocks() -> list[tuple[int, int, int, int, int]]:
    """Each block's (channels in, expanded, out, stride, kernel)."""
    found, channels = [], STEM
    for expansion, out, repeats, stride, kernel in STAGES:
        for i in range(repeats):
            found.append((channels, expansion * channels, out, 1 if i else stride, kernel))
            channels = out
    return found


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
