"""Runs a PyTorch function forward and backward, and keeps every number of it by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[Any]
Tensor = Any  # torch is no dependency of the project, so its types are not known here
RNG = np.random.default_rng(20)
arrays: dict[str, Array] = {}
manifest: dict[str, Any] = {
    "torch": str(torch.__version__),
    "layers": {},
    "losses": {},
    "optimizers": {},
    "schedules": {},
    "network": {},
}


def normal(*shape: int) -> Array:
    """Normal numbers of 12 binary places: without ties in practice, and they compress."""
    return np.round(RNG.standard_normal(shape) * 4096) / 4096


def save(path: Path) -> None:
    arrays["manifest"] = np.frombuffer(json.dumps(manifest).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def layer(
    name: str,
    op: str,
    function: Callable[..., Tensor],
    inputs: Sequence[tuple[int, ...] | Array],
    options: Mapping[str, Any] | None = None,
    params: Mapping[str, tuple[int, ...]] | None = None,
    *,
    training: bool = False,
    scale: float = 1.0,
) -> None:
    """Record one layer's output, and all its gradients for one random output gradient."""
    given = [x if isinstance(x, np.ndarray) else scale * normal(*x) for x in inputs]
    values = {n: parameter(n, shape) for n, shape in (params or {}).items()}
    sources = {f"x{i}": torch.tensor(x) for i, x in enumerate(given)}
    weights = {n: torch.tensor(p) for n, p in values.items()}
    wanted = {n: t for n, t in sources.items() if t.is_floating_point()}
    wanted |= {n: t for n, t in weights.items() if not n.startswith("running")}
    for tensor in wanted.values():
        tensor.requires_grad_()
    y = function(*sources.values(), *weights.values())
    put(name, "p", values)
    arrays.update({f"{name}/x{i}": x for i, x in enumerate(given)})
    arrays[f"{name}/y"] = y.detach().numpy()
    if y.is_floating_point():
        dy = torch.tensor(normal(*y.shape))
        arrays[f"{name}/dy"] = dy.numpy()
        grads = torch.autograd.grad(y, list(wanted.values()), dy)
        put(name, "d", dict(zip(wanted, grads, strict=True)))
    if training:
        put(name, "after", {n: weights[n] for n in values if n.startswith("running")})
    manifest["layers"][name] = {"op": op, "options": options or {}, "training": training}


def loss(name: str, kind: str, function: Callable[..., Tensor], y: Array, target: Array) -> None:
    scores = torch.tensor(y, requires_grad=True)
    found = function(scores, torch.tensor(target))
    found.backward()
    arrays.update(
        {f"{name}/y": y, f"{name}/target": target, f"{name}/loss": found.detach().numpy()}
    )
    arrays[f"{name}/dy"] = scores.grad.numpy()
    manifest["losses"][name] = kind


def optimizer(name: str, kind: str, make: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Five steps with given gradients and another learning rate each."""
    rates = [0.1, 0.2, 0.05, 0.01, 0.1]
    params = {"a": normal(3, 2), "b": normal(4)}
    tensors = {n: torch.tensor(p, requires_grad=True) for n, p in params.items()}
    stepper = make(tensors.values(), lr=1.0, **options)
    put(name, "p", params)
    for step, rate in enumerate(rates):
        grads = {n: normal(*p.shape) for n, p in params.items()}
        put(name, f"g{step}", grads)
        for n, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[n])
        stepper.param_groups[0]["lr"] = rate
        stepper.step()
        put(name, f"after{step}", tensors)
    manifest["optimizers"][name] = {"kind": kind, "options": dict(options), "rates": rates}


def schedule(
    name: str, kind: str, options: Mapping[str, Any], steps: int, make: Callable[[Any], Any]
) -> None:
    stepper = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rates, following = [], make(stepper)
    for _ in range(steps):
        rates.append(stepper.param_groups[0]["lr"])
        stepper.step()
        following.step()
    arrays[f"{name}_schedule/factors"] = np.array(rates)
    manifest["schedules"][name] = {"kind": kind, "options": dict(options)}


def parameter(name: str, shape: tuple[int, ...]) -> Array:
    """A parameter's value; a variance must be positive."""
    return 1 + np.abs(normal(*shape)) if name.endswith("var") else normal(*shape) / 2


def put(case: str, part: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        plain = value if isinstance(value, np.ndarray) else value.detach().numpy()
        arrays[f"{case}/{part}.{name}"] = plain.copy()
