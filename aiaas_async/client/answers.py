"""Answers as values: what a call, a loss or a gradient request comes back with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiaas_async.client.failures import UnexpectedAnswerError
from aiaas_async.client.values import unpack
from aiaas_async.names import clip
from aiaas_async.wire.tensors import Array


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time went: waiting in the node's queue, computing, in a batch of how many. A
    `cached` answer was remembered: it took no time on any node."""

    queue_us: int
    compute_us: int
    batch_size: int
    node: str
    cached: bool = False


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """`outputs`: arrays, lists of texts, or scalars where one item was asked about."""

    model: str
    version: str
    outputs: dict[str, Any]
    timing: Timing

    def __getitem__(self, output: str) -> Any:
        return self.outputs[output]


@dataclass(frozen=True, slots=True)
class LossAnswer:
    model: str
    version: str
    loss: float


@dataclass(frozen=True, slots=True)
class GradientAnswer:
    """Gradients of the loss by the inputs and by the parameters; empty where not asked for."""

    model: str
    version: str
    loss: float
    inputs: dict[str, Array]
    parameters: dict[str, Array]


def call_answer(raw: Any) -> CallAnswer:
    try:
        timing = raw["timing"]
        return CallAnswer(
            model=raw["model"],
            version=raw["version"],
            outputs={name: unpack(value) for name, value in raw["outputs"].items()},
            timing=Timing(
                timing["queue_us"],
                timing["compute_us"],
                timing["batch_size"],
                timing["node"],
                timing.get("cached", False),
            ),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _strange("a call", raw) from error


def loss_answer(raw: Any) -> LossAnswer:
    try:
        return LossAnswer(raw["model"], raw["version"], float(raw["loss"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _strange("a loss", raw) from error


def gradient_answer(raw: Any) -> GradientAnswer:
    try:
        gradients: Mapping[str, Any] = raw["gradients"]
        return GradientAnswer(
            raw["model"],
            raw["version"],
            float(raw["loss"]),
            unpack(gradients.get("inputs", {})),
            unpack(gradients.get("parameters", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _strange("gradients", raw) from error


def _strange(what: str, raw: Any) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(f"this is not the answer to {what}: {clip(raw, 200)}")
