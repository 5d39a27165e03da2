"""Pre- and post-processing as layers, so that a call may give pixels and get a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from aiaas_async.errors import GraphError
from aiaas_async.nn.layer import FLOAT, Array, Gradients, Kind, Layer, Mode, Need, Shape, known


class Scale(Layer, frozen=True):
    """y = factor x + offset."""

    TAKES: ClassVar[tuple[Kind, ...]] = (FLOAT, "integer")

    factor: float = 1.0
    offset: float = 0.0

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        return shapes[0]

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        x = as_float(xs[0])
        y = x * x.dtype.type(self.factor)
        if self.offset:
            y += x.dtype.type(self.offset)
        return y, None

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        return [dy * dy.dtype.type(self.factor)], []


class Normalise(Layer, frozen=True):
    """y = (x - mean) / std, per channel (last axis) or with one number for all."""

    TAKES: ClassVar[tuple[Kind, ...]] = (FLOAT, "integer")

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        if not shapes[0]:
            raise GraphError("takes inputs with channels, got one without dimensions")
        channels = known(shapes[0][-1], "the number of channels")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise GraphError(f"{name} has {len(values)} values for {channels} channels")
        if not all(value > 0 for value in self.std):
            raise GraphError(f"std must be positive, got {list(self.std)}")
        return shapes[0]

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        x = as_float(xs[0])
        inverse = 1.0 / np.asarray(self.std, x.dtype)
        y = x - np.asarray(self.mean, x.dtype)
        y *= inverse
        return y, inverse

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        return [dy * saved], []


class Argmax(Layer, frozen=True):
    """The index of the largest of the last axis (int64), or its label where labels are given."""

    DIFFERENTIABLE: ClassVar[bool] = False

    labels: tuple[str, ...] | None = None

    def kind(self, given: Kind) -> Kind:
        return "integer" if self.labels is None else "string"

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        if not shapes[0]:
            raise GraphError("takes vectors, got an input without dimensions")
        classes = known(shapes[0][-1], "the number of classes")
        if self.labels is not None and len(self.labels) != classes:
            raise GraphError(f"has {len(self.labels)} labels for {classes} classes")
        return shapes[0][:-1]

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        found = xs[0].argmax(axis=-1)
        return (found if self.labels is None else np.asarray(self.labels)[found]), None


def as_float(x: Array) -> Array:
    """Integers and booleans as float32; floats stay as they are."""
    return x if x.dtype.kind == "f" else x.astype(np.float32)
