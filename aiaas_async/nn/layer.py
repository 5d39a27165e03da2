"""What a layer is: frozen options, shape inference, a forward and a backward pass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from aiaas_async.errors import GraphError, InternalError

Array = NDArray[Any]
Shape = tuple[int, ...]  # per item; -1 is any length
Pair = tuple[int, int]
Borders = tuple[Pair, Pair]  # ((top, bottom), (left, right))
Init = Literal["weight", "normal", "zeros", "ones"]
Kind = Literal["float", "integer", "string"]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
FLOAT: Final[Kind] = "float"


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """A parameter's shape and how it starts (`initial.py`); `fans` are (in, out).

    One that is not `trainable` (a running statistic) has no gradient.
    """

    shape: Shape
    init: Init = "zeros"
    fans: tuple[int, int] = (1, 1)
    trainable: bool = True


@dataclass(frozen=True, slots=True)
class Ending:
    """How an output is handed on: `apply` (values, out) is the activation that follows, `border`
    the frame of zeros that the reader of an image wants."""

    apply: Callable[[Array, Array], None] | None = None
    border: Borders = ((0, 0), (0, 0))


PLAIN: Final = Ending()


@dataclass(slots=True)
class Mode:
    """How a layer's forward pass runs.

    `keep`: a backward pass may follow, so save for it. `own`: nobody else reads the first
    input, so it may be overwritten. `framed`: the first input has its border already.
    `updates` collects new running statistics by local name.
    """

    training: bool = False
    rng: np.random.Generator | None = None
    keep: bool = True
    own: bool = False
    framed: bool = False
    ending: Ending = PLAIN
    updates: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Need:
    """Which gradients the backward pass shall compute."""

    inputs: bool
    parameters: bool


Gradients = tuple[Sequence[Array | None], Sequence[Array]]


class Layer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a layer; the subclass says what it computes.

    `ARITY` is the number of inputs, None for two or more. `ALIASES`: the output may be a view
    of the first input. `KEEPS_OUTPUT`: the backward pass reads the output again. A layer that
    overwrites its own first input (`Mode.own`) must not need it in its backward pass.
    `APPLIES`: `apply` computes it too. `ENDS`: it heeds the activation of `Mode.ending`, and one
    that `FRAMES` the border, and `framed`.
    """

    ARITY: ClassVar[int | None] = 1
    DIFFERENTIABLE: ClassVar[bool] = True
    ALIASES: ClassVar[bool] = False
    KEEPS_OUTPUT: ClassVar[bool] = False
    APPLIES: ClassVar[bool] = False
    ENDS: ClassVar[bool] = False
    FRAMES: ClassVar[bool] = False
    TAKES: ClassVar[tuple[Kind, ...]] = (FLOAT,)

    @abstractmethod
    def infer(self, shapes: Sequence[Shape]) -> Shape:
        """The output's shape per item. Raises `GraphError` when the inputs do not suit."""

    def kind(self, given: Kind) -> Kind:
        """What the output holds when the inputs hold `given`, one of `TAKES`."""
        del given
        return FLOAT

    def parameters(self, shapes: Sequence[Shape]) -> dict[str, ParameterSpec]:
        """The layer's parameters by local name, in the order in which passes take them."""
        del shapes
        return {}

    @abstractmethod
    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        """The output [N, *shape], and what `backward` needs of this pass."""

    def apply(self, x: Array, out: Array) -> None:
        """The forward pass of some elements into `out`, which may be `x`; where `APPLIES`."""
        raise _without(self, "pass by elements")

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        """Gradients of the inputs and of the trainable parameters, from that of the output; where
        it is `DIFFERENTIABLE`."""
        raise _without(self, "backward pass")


def _without(layer: Layer, what: str) -> InternalError:
    """Whoever runs a graph looks at the layer's flags first."""
    return InternalError(f"layer {type(layer).__name__} has no {what}")


def rank(shape: Shape, expected: int, what: str) -> None:
    """Raise `GraphError` unless `shape` has `expected` dimensions."""
    if len(shape) != expected:
        raise GraphError(f"takes {what}, got an input of shape {list(shape)} per item")


def known(size: int, what: str) -> int:
    """`size`, which must not be -1."""
    if size < 0:
        raise GraphError(f"{what} must be known, got -1 (any)")
    return size
