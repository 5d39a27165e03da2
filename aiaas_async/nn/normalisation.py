"""Normalisation layers (Ioffe and Szegedy 2015; Ba, Kiros and Hinton 2016) and dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from aiaas_async.errors import GraphError, InvalidError
from aiaas_async.nn.layer import Array, Gradients, Layer, Mode, Need, ParameterSpec, Shape, known


class BatchNorm(Layer, frozen=True):
    """Per channel (last axis) over the batch; with running statistics when not training.

    `momentum` is the weight of the newest batch; the running variance is the unbiased one.
    """

    epsilon: float = 1e-5
    momentum: float = 0.1

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        if not shapes[0]:
            raise GraphError("takes inputs with channels, got one without dimensions")
        known(shapes[0][-1], "the number of channels")
        return shapes[0]

    def parameters(self, shapes: Sequence[Shape]) -> dict[str, ParameterSpec]:
        shape = (shapes[0][-1],)
        return {
            "weight": ParameterSpec(shape, "ones"),
            "bias": ParameterSpec(shape),
            "running_mean": ParameterSpec(shape, trainable=False),
            "running_var": ParameterSpec(shape, "ones", trainable=False),
        }

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        x, (weight, bias, running_mean, running_var) = xs[0], ps
        if not mode.training:
            inverse = 1.0 / np.sqrt(running_var + self.epsilon)
            normal = (x - running_mean) * inverse
            return normal * weight + bias, (normal, inverse, False)
        axes = tuple(range(x.ndim - 1))
        count = x.size // x.shape[-1]
        mean, variance = x.mean(axis=axes), x.var(axis=axes)
        inverse = 1.0 / np.sqrt(variance + self.epsilon)
        normal = (x - mean) * inverse
        unbiased = variance * (count / max(1, count - 1))
        keep = 1.0 - self.momentum
        dtype = running_mean.dtype
        new_mean = keep * running_mean + self.momentum * mean
        new_var = keep * running_var + self.momentum * unbiased
        mode.updates["running_mean"] = new_mean.astype(dtype, copy=False)
        mode.updates["running_var"] = new_var.astype(dtype, copy=False)
        return normal * weight + bias, (normal, inverse, True)

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        normal, inverse, trained = saved
        axes = tuple(range(dy.ndim - 1))
        dweight, dbias = (dy * normal).sum(axis=axes), dy.sum(axis=axes)
        grads = [dweight, dbias] if need.parameters else []
        if not need.inputs:
            return [None], grads
        scale = ps[0] * inverse
        if not trained:
            return [dy * scale], grads
        count = dy.size // dy.shape[-1]
        return [scale * (dy - dbias / count - normal * (dweight / count))], grads


class LayerNorm(Layer, frozen=True):
    """Per item over the last axis."""

    epsilon: float = 1e-5

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        if not shapes[0]:
            raise GraphError("takes inputs with channels, got one without dimensions")
        known(shapes[0][-1], "the last dimension of its input")
        return shapes[0]

    def parameters(self, shapes: Sequence[Shape]) -> dict[str, ParameterSpec]:
        shape = (shapes[0][-1],)
        return {"weight": ParameterSpec(shape, "ones"), "bias": ParameterSpec(shape)}

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        centred = xs[0] - xs[0].mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        inverse = 1.0 / np.sqrt(variance + self.epsilon)
        normal = centred * inverse
        return normal * ps[0] + ps[1], (normal, inverse)

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        normal, inverse = saved
        axes = tuple(range(dy.ndim - 1))
        grads = [(dy * normal).sum(axis=axes), dy.sum(axis=axes)] if need.parameters else []
        if not need.inputs:
            return [None], grads
        inner = dy * ps[0]
        mean = inner.mean(axis=-1, keepdims=True)
        along = (inner * normal).mean(axis=-1, keepdims=True)
        return [inverse * (inner - mean - normal * along)], grads


class Dropout(Layer, frozen=True):
    """Zeroes a share `rate` of the inputs while training, and scales the rest up to match."""

    ALIASES: ClassVar[bool] = True

    rate: float = 0.5

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        if not 0.0 <= self.rate < 1.0:
            raise GraphError(f"rate must be at least 0 and below 1, got {self.rate}")
        return shapes[0]

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        x = xs[0]
        if not mode.training or self.rate == 0.0:
            return x, None
        if mode.rng is None:
            raise InvalidError("dropout needs a random generator while training")
        kept = mode.rng.random(x.shape, np.float32) >= self.rate
        mask = kept.astype(x.dtype) / x.dtype.type(1.0 - self.rate)
        return x * mask, mask

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        return [dy if saved is None else dy * saved], []
