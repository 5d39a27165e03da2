"""Sliding windows over images: padding, output sizes, and the pixels each offset sees."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from aiaas_async.errors import GraphError
from aiaas_async.nn.layer import Array, Borders, Pair, Shape, rank

Reach = Annotated[int, msgspec.Meta(ge=1, le=4096)]
Window = tuple[Reach, Reach]  # a kernel or a stride, as an option
Slices = tuple[slice, ...]
Padding = Literal["same", "valid"] | Borders
Tile = tuple[slice, slice]  # of images, of output rows
TILE_BYTES: Final = 192 * 1024  # well within a common L2 cache of 512 KiB
NO_BORDER: Final[Borders] = ((0, 0), (0, 0))
THIN: Final = 3  # up to so many channels, copying plane by plane is faster than pixel by pixel
THIN_BYTES: Final = 112 * 1024  # times 32 filters, a product that is not packed (`product.py`)


def check(kernel: Pair, padding: Padding) -> None:
    """Raise `GraphError` unless each window sees the image."""
    if isinstance(padding, str):
        return
    for around, k in zip(padding, kernel, strict=True):
        if min(around) < 0 or max(around) >= k:
            raise GraphError(
                f"padding must be 0 or more and less than the kernel {list(kernel)}, got "
                f"{[list(p) for p in padding]}"
            )


def pads(size: Pair, kernel: Pair, stride: Pair, padding: Padding) -> Borders:
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
    """Height and width of the output for an image of `shape` per item. Raises `GraphError`."""
    rank(shape, 3, "images [height, width, channels]")
    check(kernel, padding)
    return output_size((shape[0], shape[1]), kernel, stride, padding)


def pad(x: Array, around: Borders, value: float = 0.0) -> Array:
    """`x` [N, H, W, C] with borders of `value`."""
    if around == NO_BORDER:
        return x
    whole = np.empty(framed_shape(x.shape, around), x.dtype)
    frame(whole, around, value)[:] = x
    return whole


def framed_shape(shape: Shape, around: Borders) -> Shape:
    """Of images [N, H, W, C] with their borders."""
    (top, bottom), (left, right) = around
    n, h, w, c = shape
    return n, top + h + bottom, left + w + right, c


def frame(whole: Array, around: Borders, value: float = 0.0) -> Array:
    """Fill the borders of images [N, H, W, C]; gives their inside, as a view."""
    (top, bottom), (left, right) = around
    h, w = whole.shape[1] - top - bottom, whole.shape[2] - left - right
    whole[:, :top] = whole[:, top + h :] = value
    whole[:, top : top + h, :left] = whole[:, top : top + h, left + w :] = value
    return whole[:, top : top + h, left : left + w]


def unpad(x: Array, around: Borders) -> Array:
    """The inverse of `pad`, as a view."""
    (top, bottom), (left, right) = around
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def spread(dy: Array, size: Pair, kernel: Pair, stride: Pair, around: Borders) -> Array:
    """`dy` [N, oh, ow, F] laid out so that sliding the flipped kernel over it, one pixel at a
    time, meets each input pixel of an image of `size`: stride - 1 zeros between its pixels, and
    borders of what kernel and padding leave."""
    (n, oh, ow, f), (kh, kw), (sh, sw) = dy.shape, kernel, stride
    if kernel == stride == (1, 1):
        return dy
    top, left = kh - 1 - around[0][0], kw - 1 - around[1][0]
    out = np.zeros((n, size[0] + kh - 1, size[1] + kw - 1, f), dy.dtype)
    out[:, top : top + oh * sh : sh, left : left + ow * sw : sw][:, :oh, :ow] = dy
    return out


def windows(x: Array, kernel: Pair, stride: Pair) -> Array:
    """The window at each output position: a read-only view [N, oh, ow, kh, kw, C] of `x`."""
    slid = sliding_window_view(x, kernel, axis=(1, 2))
    return slid[:, :: stride[0], :: stride[1]].transpose(0, 1, 2, 4, 5, 3)


def columns(x: Array, kernel: Pair, stride: Pair) -> Iterator[tuple[Tile, Array]]:
    """Tile by tile of the output, the windows there as rows [positions, kh kw C + 1] ("im2col");
    each row ends in a one, so that a bias is one more row of the weight.

    Tiles are whole images, or some rows of one. The rows lie in one buffer small enough to
    stay in the cache, overwritten by the next tile: for a 3x3 kernel on 14x14x16 images that
    takes a quarter of the time of all columns at once.
    """
    view = windows(x, kernel, stride)
    depth = prod(view.shape[3:])
    thin = x.shape[3] <= THIN
    nbytes = THIN_BYTES if thin else TILE_BYTES
    parts = list(tiles(view.shape[:3], (depth + 1) * x.itemsize, nbytes))
    most = max((prod(view[at].shape[:3]) for at in parts), default=0)
    buffer = np.empty((depth + 1) * most, x.dtype)
    for at in parts:
        part = view[at].transpose(3, 4, 5, 0, 1, 2) if thin else view[at]
        n = part.size // depth
        used = buffer[: (depth + 1) * n]
        rows = used.reshape(depth + 1, n).T if thin else used.reshape(n, depth + 1)
        rows[:, -1] = 1
        np.copyto((rows.T[:-1] if thin else rows[:, :-1]).reshape(part.shape), part)
        yield at, rows


def along(side: int, kernel: Pair, stride: Pair, out: Pair) -> Iterator[Slices]:
    """For each offset in the kernel along a `side` (0 height, 1 width) of the images: the
    pixels it meets over all output positions of that side."""
    for i in range(kernel[side]):
        met = slice(i, i + (out[side] - 1) * stride[side] + 1, stride[side])
        yield (slice(None), *(slice(None),) * side, met)


def pixels(x: Array) -> Array:
    """`x` [N, H, W, C], contiguous, as whole pixels [N, H, W], a view.

    numpy moves one with a single copy; its loop over a few channels takes twice as long.
    """
    whole: Array = x.view(np.dtype((np.void, x.itemsize * x.shape[3])))
    return whole[..., 0]


def taken(x: Array, at: Slices) -> Array:
    """The pixels `at` of `x` [N, H, W, C], contiguous, as a copy."""
    found: Array = pixels(x)[at].copy()[..., None].view(x.dtype)
    return found


def groups(count: int, each: int, nbytes: int) -> Iterator[slice]:
    """Cut `count` images of `each` bytes into runs of about `nbytes`, of one image at least."""
    step = max(1, nbytes // max(1, each))
    return (slice(a, a + step) for a in range(0, count, step))


def tiles(positions: Shape, each: int, nbytes: int) -> Iterator[Tile]:
    """Cut [N, oh, ow] positions of `each` bytes into tiles of about `nbytes`."""
    n, oh, ow = positions
    image = max(1, oh * ow * each)
    if image <= nbytes * 4 // 3:  # parts of an image would be slower than a little more
        step = max(1, nbytes // image)
        yield from ((slice(a, a + step), slice(None)) for a in range(0, n, step))
        return
    rows = max(1, nbytes // max(1, ow * each))
    rows = -(-oh // -(-oh // rows))  # of one height, for no product to be much smaller
    for a in range(n):
        yield from ((slice(a, a + 1), slice(r, min(oh, r + rows))) for r in range(0, oh, rows))
