"""Fully connected layers and look-up tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import numpy as np

from aiaas_async.errors import GraphError, InputError
from aiaas_async.nn.layer import (
    Array,
    Count,
    Gradients,
    Kind,
    Layer,
    Mode,
    Need,
    ParameterSpec,
    Shape,
    known,
)
from aiaas_async.nn.panelled import times

_IN_PANELS: Final = 3  # dimensions of a weight


class Dense(Layer, frozen=True):
    """y = x W + b over the last axis; W is [in, out], for predictions perhaps in panels."""

    ENDS: ClassVar[bool] = True

    units: Count
    use_bias: bool = True

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        if not shapes[0]:
            raise GraphError("takes vectors, got an input without dimensions; reshape it to [1]")
        known(shapes[0][-1], "the last dimension of its input")
        return (*shapes[0][:-1], self.units)

    def parameters(self, shapes: Sequence[Shape]) -> dict[str, ParameterSpec]:
        fans = (shapes[0][-1], self.units)
        found = {"weight": ParameterSpec(fans, "weight", fans)}
        return found | ({"bias": ParameterSpec((self.units,))} if self.use_bias else {})

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        bias, apply = ps[1] if self.use_bias else None, mode.ending.apply
        if ps[0].ndim == _IN_PANELS:
            return times(xs[0], ps[0], bias, apply), xs[0]
        y = xs[0] @ ps[0]
        if bias is not None:
            y += bias
        if apply is not None:
            apply(y, y)
        return y, xs[0]

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        dx = dy @ ps[0].T if need.inputs else None
        if not need.parameters:
            return [dx], []
        rows = dy.reshape(-1, self.units)
        grads = [saved.reshape(rows.shape[0], -1).T @ rows]
        return [dx], [*grads, np.ones(len(rows), rows.dtype) @ rows] if self.use_bias else grads


class Embedding(Layer, frozen=True):
    """Rows of a table [vocabulary, units], chosen by integers."""

    TAKES: ClassVar[tuple[Kind, ...]] = ("integer",)

    vocabulary: Count
    units: Count

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        return (*shapes[0], self.units)

    def parameters(self, shapes: Sequence[Shape]) -> dict[str, ParameterSpec]:
        return {"weight": ParameterSpec((self.vocabulary, self.units), "normal")}

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        ids = xs[0]
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocabulary:
            raise InputError(
                f"ids from {ids.min()} to {ids.max()} were given; the table has rows 0 to "
                f"{self.vocabulary - 1}"
            )
        ids = ids.astype(np.int64, copy=False)
        return ps[0][ids], ids

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        if not need.parameters:
            return [None], []
        grad = np.zeros_like(ps[0], dtype=dy.dtype)
        np.add.at(grad, saved.reshape(-1), dy.reshape(-1, self.units))
        return [None], [grad]
