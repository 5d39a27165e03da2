"""Every layer in PyTorch's words. The permutations to its layouts, NCHW and [out, in], are part
of the differentiated function, so gradients come back in ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from tests.nn.pytorch.recorder import RNG, Tensor, layer

IMAGE = (6, 5, 3)
Pair = tuple[int, int]
Padding = str | list[list[int]]


def record_layers() -> None:
    record_activations()
    record_moves()
    record_tables_and_joins()
    record_convolutions()
    record_pools()
    record_normalisation()
    record_attention()


def record_activations() -> None:
    for op in ("relu", "relu6", "silu", "tanh", "sigmoid", "gelu"):
        layer(op, op, getattr(functional, op), [(4, 7)], scale=4)
    tanh = partial(functional.gelu, approximate="tanh")
    layer("gelu_tanh", "gelu", tanh, [(4, 7)], {"approximate": True}, scale=4)
    layer("softmax", "softmax", partial(functional.softmax, dim=-1), [(3, 2, 7)], scale=5)
    layer("dropout", "dropout", partial(functional.dropout, training=False), [(4, 7)])
    layer("argmax", "argmax", lambda x: x.argmax(-1), [(4, 7)])


def record_moves() -> None:
    image = (2, *IMAGE)
    layer("flatten", "flatten", lambda x: x.flatten(1), [image])
    layer("reshape", "reshape", lambda x: x.reshape(-1, 3, 30), [image], {"shape": [3, 30]})
    layer("transpose", "transpose", nchw, [image], {"axes": [2, 0, 1]})
    layer("scale", "scale", lambda x: 3 * x - 1, [image], {"factor": 3.0, "offset": -1.0})
    options = {"mean": [0.5, 0.25, 0.1], "std": [2.0, 1.5, 0.5]}
    mean, std = map(torch.tensor, options.values())
    layer("normalise", "normalise", lambda x: (x - mean) / std, [image], options)


def record_tables_and_joins() -> None:
    params = {"weight": (5, 3), "bias": (3,)}
    layer("dense", "dense", linear, [(4, 5)], {"units": 3}, params)
    options = {"units": 3, "use_bias": False}
    layer("dense_of_rows", "dense", linear, [(2, 4, 5)], options, {"weight": (5, 3)})
    ids, options = RNG.integers(0, 6, (3, 5)), {"vocabulary": 6, "units": 4}
    layer("embedding", "embedding", functional.embedding, [ids], options, {"weight": (6, 4)})
    layer("add", "add", lambda *xs: sum(xs), [(3, 4), (3, 4), (3, 4)])
    layer("concatenate", "concatenate", lambda *xs: torch.cat(xs, -1), [(3, 4), (3, 1), (3, 2)])


def record_convolutions() -> None:
    cases: list[tuple[str, Pair, Pair, Padding, bool]] = [
        ("same", (3, 3), (1, 1), "same", True),
        ("pointwise", (1, 1), (1, 1), "same", False),
        ("strided", (3, 3), (2, 2), [[0, 1], [0, 1]], True),
        ("uneven", (3, 2), (2, 1), "valid", True),
        ("lopsided", (2, 3), (1, 2), [[1, 0], [2, 1]], True),
    ]
    for name, kernel, stride, padding, bias in cases:
        options = {"kernel": kernel, "stride": stride, "padding": padding, "use_bias": bias}
        slide = partial(correlate, stride=stride, around=borders(kernel, padding))
        shapes: dict[str, tuple[int, ...]]
        shapes = {"weight": (*kernel, 3, 4)} | ({"bias": (4,)} if bias else {})
        record = partial(layer, inputs=[(2, *IMAGE)])
        record(f"conv2d_{name}", "conv2d", slide, options=options | {"filters": 4}, params=shapes)
        shapes = {"weight": (*kernel, 3)} | ({"bias": (3,)} if bias else {})
        record(f"depthwise_{name}", "depthwise_conv2d", slide, options=options, params=shapes)


def record_pools() -> None:
    overlap = {"kernel": (3, 3), "stride": (2, 2), "padding": [[1, 1], [1, 1]]}
    for op, function in (("max_pool", functional.max_pool2d), ("avg_pool", functional.avg_pool2d)):
        layer(op, op, partial(pool, function, 2), [(2, *IMAGE)])
        layer(f"{op}_overlapping", op, partial(pool, function, 3, 2, 1), [(2, 7, 5, 3)], overlap)
    layer("global_avg_pool", "global_avg_pool", lambda x: x.mean((1, 2)), [(2, *IMAGE)])


def record_normalisation() -> None:
    shapes = {"weight": (5,), "bias": (5,)}
    layer("layer_norm", "layer_norm", layer_norm, [(3, 4, 5)], {}, shapes)
    shapes = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (3,))
    options = {"epsilon": 1e-3, "momentum": 0.2}
    for size in ((6, 3), (2, *IMAGE)):
        for training in (False, True):
            name = f"batch_norm_{len(size)}d_{'training' if training else 'serving'}"
            norm = partial(batch_norm, training=training)
            layer(name, "batch_norm", norm, [size], options, shapes, training=training)


def record_attention() -> None:
    shapes = {"qkv_weight": (6, 18), "qkv_bias": (18,), "out_weight": (6, 6), "out_bias": (6,)}
    record = partial(layer, op="attention", inputs=[(2, 5, 6)])
    for name, causal in (("attention", False), ("attention_causal", True)):
        function = partial(multi_head, heads=2, causal=causal)
        record(name, function=function, options={"heads": 2, "causal": causal}, params=shapes)
    wide = {"qkv_weight": (6, 24), "out_weight": (8, 6)}
    options = {"heads": 4, "head_size": 2, "qkv_bias": False, "out_bias": False}
    function = partial(scaled_dot_product, heads=4)
    record("attention_wide", function=function, options=options, params=wide)


def multi_head(x: Tensor, *parameters: Tensor, heads: int, causal: bool) -> Tensor:
    """`nn.MultiheadAttention`, in its own functional form."""
    qkv, qkv_bias, out, out_bias = parameters
    inputs = x.movedim(0, 1)  # PyTorch's order: time, batch, channels
    ahead = torch.ones(len(inputs), len(inputs), dtype=torch.bool).triu(1) if causal else None
    y, _ = functional.multi_head_attention_forward(
        *(inputs, inputs, inputs, x.shape[-1], heads, qkv.T, qkv_bias, None, None, False, 0.0),
        *(out.T, out_bias),
        need_weights=False,
        attn_mask=ahead,
    )
    return y.movedim(0, 1)


def scaled_dot_product(x: Tensor, qkv: Tensor, out: Tensor, *, heads: int) -> Tensor:
    parts = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (x @ qkv).chunk(3, -1))
    y = functional.scaled_dot_product_attention(*parts)
    return y.transpose(1, 2).flatten(2) @ out


def linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    return functional.linear(x, w.T, b)


def layer_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return functional.layer_norm(x, w.shape, w, b, 1e-5)


def batch_norm(x: Tensor, w: Tensor, b: Tensor, *running: Tensor, training: bool) -> Tensor:
    y = functional.batch_norm(x.movedim(-1, 1), *running, w, b, training, 0.2, 1e-3)
    return y.movedim(1, -1)


def pool(function: Callable[..., Tensor], *geometry_then_x: Any) -> Tensor:
    *geometry, x = geometry_then_x
    return nhwc(function(nchw(x), *geometry))


def correlate(
    x: Tensor, w: Tensor, b: Tensor | None = None, *, stride: Pair, around: list[int]
) -> Tensor:
    """A convolution, or a depthwise one where the kernel has no channels out."""
    depthwise = w.ndim == 3
    kernels = w.permute(2, 0, 1)[:, None] if depthwise else w.permute(3, 2, 0, 1)
    groups = len(kernels) if depthwise else 1
    padded = functional.pad(nchw(x), around)
    return nhwc(functional.conv2d(padded, kernels, b, stride, groups=groups))


def borders(kernel: Pair, padding: Padding) -> list[int]:
    """(left, right, top, bottom); "same" is asked of odd kernels at stride 1 only."""
    if padding == "valid":
        return [0, 0, 0, 0]
    if isinstance(padding, str):
        return [kernel[1] // 2] * 2 + [kernel[0] // 2] * 2
    return [*padding[1], *padding[0]]


def nchw(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def nhwc(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)
