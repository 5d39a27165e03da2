"""Activations: functions of each element, and softmax over the last axis."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import numpy as np

from aiaas_async.errors import GraphError
from aiaas_async.nn.layer import Array, Gradients, Layer, Mode, Need, Shape

_SQRT_HALF: Final = math.sqrt(0.5)
_SQRT_2_OVER_PI: Final = math.sqrt(2.0 / math.pi)


class _Elementwise(Layer, frozen=True):
    """Keeps its shape."""

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        return shapes[0]


class _Activation(_Elementwise, frozen=True):
    """`value` is y and what `slope` needs; `slope` is dy/dx."""

    @abstractmethod
    def value(self, x: Array) -> tuple[Array, Any]: ...

    @abstractmethod
    def slope(self, saved: Any) -> Array: ...

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        return self.value(xs[0])

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        return [dy * self.slope(saved)], []


class Rectifier(_Elementwise, frozen=True):
    """max(x, 0), and no more than `MOST`."""

    KEEPS_OUTPUT: ClassVar[bool] = True
    APPLIES: ClassVar[bool] = True
    MOST: ClassVar[float] = np.inf

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        y = xs[0] if mode.own else np.empty_like(xs[0])
        self.apply(xs[0], y)
        return y, y

    def apply(self, x: Array, out: Array) -> None:
        x.clip(0, self.MOST, out)  # not maximum: numpy's loop is three times as fast


class Relu(Rectifier, frozen=True):
    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        dx = np.empty_like(dy)
        np.greater(saved, 0, out=dx, casting="unsafe")
        dx *= dy
        return [dx], []


class Relu6(Rectifier, frozen=True):
    MOST: ClassVar[float] = 6.0

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        return [dy * ((saved > 0) & (saved < self.MOST))], []


class Sigmoid(_Activation, frozen=True):
    KEEPS_OUTPUT: ClassVar[bool] = True

    def value(self, x: Array) -> tuple[Array, Any]:
        y = sigmoid(x)
        return y, y

    def slope(self, saved: Any) -> Array:
        found: Array = saved * (1 - saved)
        return found


class Tanh(_Activation, frozen=True):
    KEEPS_OUTPUT: ClassVar[bool] = True

    def value(self, x: Array) -> tuple[Array, Any]:
        y = np.tanh(x)
        return y, y

    def slope(self, saved: Any) -> Array:
        found: Array = 1 - saved * saved
        return found


class Silu(_Activation, frozen=True):
    """x sigmoid(x)."""

    def value(self, x: Array) -> tuple[Array, Any]:
        gate = sigmoid(x)
        return x * gate, (x, gate)

    def slope(self, saved: Any) -> Array:
        x, gate = saved
        found: Array = gate * (1 + x * (1 - gate))
        return found


class Gelu(_Activation, frozen=True):
    """x Phi(x) (Hendrycks and Gimpel 2016), exact or by their tanh formula."""

    approximate: bool = False

    def value(self, x: Array) -> tuple[Array, Any]:
        if self.approximate:
            inner = np.tanh(_SQRT_2_OVER_PI * (x + 0.044715 * x**3))
            return 0.5 * x * (1 + inner), (x, inner)
        phi = 0.5 * (1 + erf(x * _SQRT_HALF))
        return x * phi, (x, phi)

    def slope(self, saved: Any) -> Array:
        x, part = saved
        found: Array
        if self.approximate:
            inner = _SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x * x)
            found = 0.5 * (1 + part) + 0.5 * x * (1 - part * part) * inner
        else:
            found = part + x * np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
        return found.astype(x.dtype, copy=False)


class Softmax(Layer, frozen=True):
    """Probabilities over the last axis."""

    KEEPS_OUTPUT: ClassVar[bool] = True

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        if not shapes[0]:
            raise GraphError("takes vectors, got an input without dimensions")
        return shapes[0]

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        y = softmax(xs[0])
        return y, y

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        inner = (dy * saved).sum(axis=-1, keepdims=True)
        return [saved * (dy - inner)], []


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow: by tanh."""
    y: Array = np.tanh(0.5 * x)
    y *= 0.5
    y += 0.5
    return y


def softmax(x: Array) -> Array:
    """exp(x) / sum exp(x) over the last axis, shifted by the maximum."""
    y: Array = np.exp(x - x.max(axis=-1, keepdims=True))
    y /= y.sum(axis=-1, keepdims=True)
    return y


def erf(x: Array) -> Array:
    """The error function: in float64 to the last digits through libm; in float32 by Abramowitz
    and Stegun 7.1.26, whose error of 1.5e-7 is float32's own."""
    if x.dtype == np.float64:
        exact = np.frompyfunc(math.erf, 1, 1)(x)
        return np.asarray(exact, dtype=np.float64)
    positive = np.abs(x)
    t = 1 / (1 + 0.3275911 * positive)
    series = t * (
        0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    )
    y = np.copysign(1 - series * np.exp(-positive * positive), x)
    found: Array = y.astype(x.dtype, copy=False)
    return found
