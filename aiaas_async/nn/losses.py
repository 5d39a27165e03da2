"""Losses: the mean over the batch, and its gradient with respect to the predictions.

Being batch means, the losses and gradients of shards, weighted by their item counts, add up to
those of the whole. The two cross entropies take scores before softmax or sigmoid ("logits"),
where they are stable and their gradients are simple: probability - target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from aiaas_async.errors import InputError
from aiaas_async.nn.activations import sigmoid
from aiaas_async.nn.layer import Array

Loss = Callable[[Array, Array], tuple[float, Array]]


def mse(y: Array, target: Array) -> tuple[float, Array]:
    """mean (y - target)^2 over all elements; `target` has y's shape [N, ...]."""
    _same_shape(y, target)
    difference = y - target.astype(y.dtype, copy=False)
    scale = 1.0 / max(1, y.size)
    return float(np.square(difference).sum(dtype=np.float64)) * scale, difference * _at(
        y, 2 * scale
    )


def cross_entropy(y: Array, target: Array) -> tuple[float, Array]:
    """-sum t log softmax(y) over the last axis, averaged over the rest.

    y [N, ..., C]; `target` [N, ...] of class numbers, or [N, ..., C] of probabilities.
    """
    shifted = y - y.max(axis=-1, keepdims=True)
    gradient = np.exp(shifted)
    total = gradient.sum(axis=-1, keepdims=True)
    gradient /= total
    scale = 1.0 / max(1, y.size // y.shape[-1])
    if target.shape == y.shape and target.dtype.kind == "f":
        if target.size and target.min() < 0:
            raise InputError(
                "targets of cross_entropy are probabilities, none below 0; got "
                f"{target.min()} to {target.max()}"
            )
        logs = shifted - np.log(total)
        loss = -float((target * logs).sum(dtype=np.float64))
        gradient *= target.sum(axis=-1, keepdims=True)
        gradient -= target
    else:
        at = np.arange(0, y.size, y.shape[-1]) + _class_numbers(y, target)
        loss = float(np.log(total).sum(dtype=np.float64))
        loss -= float(shifted.reshape(-1).take(at).sum(dtype=np.float64))
        gradient.reshape(-1)[at] -= 1
    gradient *= _at(y, scale)
    return loss * scale, gradient


def binary_cross_entropy(y: Array, target: Array) -> tuple[float, Array]:
    """-(t log sigmoid(y) + (1 - t) log(1 - sigmoid(y))), the mean over all elements.

    `target` in [0, 1] has y's shape. Computed as max(y, 0) - y t + log(1 + exp(-|y|)).
    """
    _same_shape(y, target)
    wanted = target.astype(y.dtype, copy=False)
    if target.size and (wanted.min() < 0 or wanted.max() > 1):
        raise InputError(
            f"targets of binary_cross_entropy lie in [0, 1]; got {wanted.min()} to {wanted.max()}"
        )
    losses = np.maximum(y, 0) - y * wanted + np.log1p(np.exp(-np.abs(y)))
    scale = 1.0 / max(1, y.size)
    return float(losses.sum(dtype=np.float64)) * scale, (sigmoid(y) - wanted) * _at(y, scale)


LOSSES: Final[dict[str, Loss]] = {
    "mse": mse,
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
}


def _at(y: Array, factor: float) -> Array:
    """`factor` in y's dtype, so that a product keeps it."""
    return np.asarray(factor, y.dtype)


def _same_shape(y: Array, target: Array) -> None:
    if y.shape != target.shape:
        raise InputError(
            f"targets {list(target.shape)} must have the shape of the predictions {list(y.shape)}"
        )


def _class_numbers(y: Array, target: Array) -> Array:
    """All indices in a row. Raises `InputError` unless they are classes of y."""
    if target.dtype.kind not in "iu" or target.shape != y.shape[:-1]:
        raise InputError(
            f"targets for predictions {list(y.shape)} must be class numbers "
            f"{list(y.shape[:-1])} (integers) or probabilities {list(y.shape)} (floats); got "
            f"{target.dtype} {list(target.shape)}"
        )
    classes = y.shape[-1]
    if target.size and not 0 <= int(target.min()) <= int(target.max()) < classes:
        raise InputError(
            f"class numbers lie in 0 to {classes - 1}; got {target.min()} to {target.max()}"
        )
    return target.astype(np.int64, copy=False).reshape(-1)
