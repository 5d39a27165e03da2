"""Sliding windows over images: padding, output sizes, and the pixels each offset sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from aiaas_async.errors import GraphError
from aiaas_async.nn.layer import Array, Shape, rank

Pair = tuple[int, int]
Slices = tuple[slice, slice, slice]
Padding = Literal["same", "valid"] | tuple[Pair, Pair]


def check(kernel: Pair, stride: Pair, padding: Padding) -> None:
    """Raise `GraphError` unless kernel and stride are positive and each window sees the image."""
    if min(*kernel, *stride) < 1:
        raise GraphError(f"kernel {list(kernel)} and stride {list(stride)} must be positive")
    if isinstance(padding, str):
        return
    for around, k in zip(padding, kernel, strict=True):
        if min(around) < 0 or max(around) >= k:
            raise GraphError(
                f"padding must be 0 or more and less than the kernel {list(kernel)}, got "
                f"{[list(p) for p in padding]}"
            )


def pads(size: Pair, kernel: Pair, stride: Pair, padding: Padding) -> tuple[Pair, Pair]:
    """((top, bottom), (left, right)). "same" gives ceil(size / stride) outputs, the odd pixel
    at the end, as TensorFlow has it."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same":
        return padding
    found = []
    for n, k, s in zip(size, kernel, stride, strict=True):
        total = max(0, (-(-n // s) - 1) * s + k - n)
        found.append((total // 2, total - total // 2))
    return found[0], found[1]


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Padding) -> Pair:
    """Height and width of the output. Raises `GraphError` when the kernel does not fit."""
    around = pads(size, kernel, stride, padding)
    found = []
    for n, k, s, (before, after) in zip(size, kernel, stride, around, strict=True):
        out = -1 if n < 0 else (n + before + after - k) // s + 1
        if n >= 0 and out < 1:
            raise GraphError(
                f"kernel {list(kernel)} does not fit an image of {list(size)} with padding "
                f"{padding!r}"
            )
        found.append(out)
    return found[0], found[1]


def infer_image(shape: Shape, kernel: Pair, stride: Pair, padding: Padding) -> Pair:
    rank(shape, 3, "images [height, width, channels]")
    check(kernel, stride, padding)
    return output_size((shape[0], shape[1]), kernel, stride, padding)


def pad(x: Array, around: tuple[Pair, Pair], value: float = 0.0) -> Array:
    """`x` [N, H, W, C] with borders of `value`."""
    (top, bottom), (left, right) = around
    if not (top or bottom or left or right):
        return x
    n, h, w, c = x.shape
    out = np.full((n, h + top + bottom, w + left + right, c), value, x.dtype)
    out[:, top : top + h, left : left + w] = x
    return out


def unpad(x: Array, around: tuple[Pair, Pair]) -> Array:
    """The inverse of `pad`, as a view."""
    (top, bottom), (left, right) = around
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def offsets(kernel: Pair, stride: Pair, out: Pair) -> Iterator[tuple[int, int, Slices]]:
    """For each kernel offset (i, j): the pixels it meets over all output positions."""
    (sh, sw), (oh, ow) = stride, out
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows = slice(i, i + (oh - 1) * sh + 1, sh)
            columns = slice(j, j + (ow - 1) * sw + 1, sw)
            yield i, j, (slice(None), rows, columns)
