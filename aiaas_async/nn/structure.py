"""Layers that move values without computing on them, and those that join branches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from aiaas_async.errors import GraphError, InputError
from aiaas_async.nn.layer import FLOAT, Array, Gradients, Kind, Layer, Mode, Need, Shape, known


class _Move(Layer, frozen=True):
    """Moves values of any number type, perhaps without copying."""

    ALIASES: ClassVar[bool] = True
    TAKES: ClassVar[tuple[Kind, ...]] = (FLOAT, "integer")

    def kind(self, given: Kind) -> Kind:
        return given


class Flatten(_Move, frozen=True):
    """Each item as one vector."""

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        for size in shapes[0]:
            known(size, "each dimension of its input")
        return (math.prod(shapes[0]),)

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        x = xs[0]
        return x.reshape(len(x), math.prod(x.shape[1:])), x.shape

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        return [dy.reshape(saved)], []


class Reshape(_Move, frozen=True):
    """Each item in another `shape` of the same size."""

    shape: tuple[int, ...]

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        if any(size < 0 for size in (*shapes[0], *self.shape)):
            raise GraphError("all dimensions must be known, got -1 (any)")
        if math.prod(shapes[0]) != math.prod(self.shape):
            raise GraphError(f"cannot reshape {list(shapes[0])} to {list(self.shape)}")
        return self.shape

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        return xs[0].reshape(len(xs[0]), *self.shape), xs[0].shape

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        return [dy.reshape(saved)], []


class Transpose(_Move, frozen=True):
    """Permutes the axes of each item; they count from 0, without the batch."""

    axes: tuple[int, ...]

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        if sorted(self.axes) != list(range(len(shapes[0]))):
            raise GraphError(
                f"axes {list(self.axes)} are no permutation of the {len(shapes[0])} axes of its "
                "input"
            )
        return tuple(shapes[0][axis] for axis in self.axes)

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        order = (0, *(axis + 1 for axis in self.axes))
        return np.ascontiguousarray(xs[0].transpose(order)), order

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        return [dy.transpose(np.argsort(saved))], []


class Add(Layer, frozen=True):
    """The sum of its inputs: a residual connection."""

    ARITY: ClassVar[int | None] = None

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        if any(shape != shapes[0] for shape in shapes):
            raise GraphError(f"adds inputs of one shape, got {[list(s) for s in shapes]}")
        return shapes[0]

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        _agree(xs, "adds", len(xs[0].shape))
        y = np.add(xs[0], xs[1], out=xs[0] if mode.own else None)
        for x in xs[2:]:
            y += x
        return y, len(xs)

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        return [dy] * saved, []


class Concatenate(Layer, frozen=True):
    """Joins its inputs along their last axis."""

    ARITY: ClassVar[int | None] = None

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        if any(not shape or shape[:-1] != shapes[0][:-1] for shape in shapes):
            raise GraphError(
                "joins inputs that differ in the last dimension only, got "
                f"{[list(s) for s in shapes]}"
            )
        return (*shapes[0][:-1], sum(known(s[-1], "the last dimension") for s in shapes))

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        _agree(xs, "joins", len(xs[0].shape) - 1)
        return np.concatenate(xs, axis=-1), np.cumsum([x.shape[-1] for x in xs[:-1]])

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        return np.split(dy, saved, axis=-1), []


def _agree(xs: Sequence[Array], verb: str, axes: int) -> None:
    """Dimensions that the graph leaves open (-1) are known only now, and must be the same."""
    if any(x.shape[:axes] != xs[0].shape[:axes] for x in xs):
        raise InputError(
            f"a layer {verb} values of different shapes: {[list(x.shape) for x in xs]}"
        )
