"""Optimisers: pure steps from (state, parameters, gradients) to new parameters and state.

A state is a flat dict of arrays ("momentum.conv1.weight", and a 0-d int64 "step"), so that a
checkpoint is a file of named arrays. Parameters without a gradient pass through unchanged.
Factors are Python floats, which keep an array's dtype; numpy's own would widen float32.
Updates follow the papers as PyTorch implements them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final, Protocol

import msgspec
import numpy as np

from aiaas_async.nn.layer import Array

State = dict[str, Array]
Params = dict[str, Array]
Arrays = Mapping[str, Array]
Share = Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)]
Decay = Annotated[float, msgspec.Meta(ge=0.0)]


class Optimizer(Protocol):
    def init(self, params: Arrays) -> State:
        """The state before the first step."""
        ...

    def step(self, state: Arrays, params: Arrays, grads: Arrays, lr: float) -> tuple[Params, State]:
        """New parameters and state; nothing given is written to."""
        ...


class Sgd(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """v <- momentum v + g;  p <- p - lr v, or p - lr (g + momentum v) with Nesterov's variant
    (Sutskever et al. 2013); g includes weight_decay p."""

    momentum: Share = 0.0
    nesterov: bool = False
    weight_decay: Decay = 0.0

    def init(self, params: Arrays) -> State:
        zeros = {f"momentum.{name}": np.zeros_like(p) for name, p in params.items()}
        return _first_step() | (zeros if self.momentum else {})

    def step(self, state: Arrays, params: Arrays, grads: Arrays, lr: float) -> tuple[Params, State]:
        new, after, rate = dict(params), _next_step(state), float(lr)
        for name, grad in grads.items():
            p = params[name]
            slope = grad + self.weight_decay * p if self.weight_decay else grad
            if self.momentum:
                velocity = self.momentum * state[f"momentum.{name}"]
                velocity += slope
                after[f"momentum.{name}"] = velocity
                slope = slope + self.momentum * velocity if self.nesterov else velocity
            change = slope * rate
            new[name] = np.subtract(p, change, out=change)
        return new, after


class Adam(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Kingma and Ba (2015), bias-corrected; weight decay is added to the gradient."""

    beta1: Share = 0.9
    beta2: Share = 0.999
    epsilon: Annotated[float, msgspec.Meta(gt=0.0)] = 1e-8
    weight_decay: Decay = 0.0

    def init(self, params: Arrays) -> State:
        slots = ("mean", "square")
        zeros = {f"{slot}.{name}": np.zeros_like(params[name]) for slot in slots for name in params}
        return _first_step() | zeros

    def step(self, state: Arrays, params: Arrays, grads: Arrays, lr: float) -> tuple[Params, State]:
        new, after = dict(params), _next_step(state)
        taken = int(after["step"])
        lr = float(lr)
        rate = lr / (1.0 - self.beta1**taken)
        root = 1.0 / math.sqrt(1.0 - self.beta2**taken)
        for name, grad in grads.items():
            p, slope = self.decayed(params[name], grad, lr)
            mean = self.beta1 * state[f"mean.{name}"]
            mean += (1.0 - self.beta1) * slope
            square = self.beta2 * state[f"square.{name}"]
            square += (1.0 - self.beta2) * (slope * slope)
            below = np.sqrt(square)
            below *= root
            below += self.epsilon
            change = np.divide(mean, below, out=below)
            change *= rate
            new[name] = np.subtract(p, change, out=change)
            after[f"mean.{name}"], after[f"square.{name}"] = mean, square
        return new, after

    def decayed(self, p: Array, grad: Array, lr: float) -> tuple[Array, Array]:
        """The parameter and the gradient after weight decay."""
        del lr
        return p, grad + self.weight_decay * p if self.weight_decay else grad


class AdamW(Adam, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Adam with the decay applied to the parameter itself (Loshchilov and Hutter 2019)."""

    weight_decay: Decay = 0.01

    def decayed(self, p: Array, grad: Array, lr: float) -> tuple[Array, Array]:
        return p * (1.0 - lr * self.weight_decay), grad


OPTIMIZERS: Final[dict[str, type[Sgd | Adam]]] = {"sgd": Sgd, "adam": Adam, "adamw": AdamW}


def norm(grads: Arrays) -> float:
    """The Euclidean norm of all gradients together."""
    return float(np.sqrt(sum(float(np.vdot(g, g)) for g in grads.values())))


def clip_by_norm(grads: Arrays, limit: float) -> tuple[Params, float]:
    """Gradients scaled down so that their common norm is at most `limit`; and the norm before.

    Pascanu et al. (2013). Below the limit, and where the norm is not finite, they are unchanged.
    """
    size = norm(grads)
    if not limit < size < float("inf"):
        return dict(grads), size
    return {name: g * (float(limit) / size) for name, g in grads.items()}, size


def _first_step() -> State:
    return {"step": np.zeros((), np.int64)}


def _next_step(state: Arrays) -> State:
    return dict(state) | {"step": np.asarray(int(state["step"]) + 1, np.int64)}
