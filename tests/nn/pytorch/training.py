"""Losses, optimisers, clipping, schedules, and a few steps of a small network in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional

from tests.nn.pytorch.layers import nchw, nhwc
from tests.nn.pytorch.recorder import (
    RNG,
    Tensor,
    arrays,
    loss,
    manifest,
    normal,
    optimizer,
    parameter,
    put,
    schedule,
)


def record_training() -> None:
    record_losses()
    record_optimizers()
    record_clipping()
    record_schedules()
    record_network()


def record_losses() -> None:
    y, sequences = 3 * normal(6, 5), normal(3, 4, 5)
    extreme, classes = 100 * y, RNG.integers(0, 5, 6)
    entropy, binary = functional.cross_entropy, functional.binary_cross_entropy_with_logits
    loss("mse", "mse", functional.mse_loss, y, normal(6, 5))
    loss("classes", "cross_entropy", entropy, y, classes)
    loss("classes_extreme", "cross_entropy", entropy, extreme, classes)
    loss("shares", "cross_entropy", entropy, y, RNG.dirichlet(np.ones(5), 6))
    each = RNG.integers(0, 5, (3, 4))
    loss("rows", "cross_entropy", lambda y, t: entropy(y.movedim(-1, 1), t), sequences, each)
    loss("binary", "binary_cross_entropy", binary, y, RNG.random((6, 5)))
    hard = RNG.integers(0, 2, (6, 5)).astype(np.float64)
    loss("binary_extreme", "binary_cross_entropy", binary, extreme, hard)


def record_optimizers() -> None:
    sgd, adam, adamw = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
    optimizer("sgd", "sgd", sgd, {})
    optimizer("sgd_decay", "sgd", sgd, {"weight_decay": 0.1})
    optimizer("sgd_momentum", "sgd", sgd, {"momentum": 0.9, "weight_decay": 0.01})
    optimizer("sgd_nesterov", "sgd", sgd, {"momentum": 0.9, "nesterov": True})
    optimizer("adam", "adam", adam, {})
    optimizer("adam_decay", "adam", adam, {"weight_decay": 0.1})
    optimizer("adamw", "adamw", adamw, {"weight_decay": 0.1})


def record_clipping() -> None:
    grads = {"a": normal(3, 4), "b": normal(5)}
    tensors = [torch.zeros(g.shape, dtype=torch.float64) for g in grads.values()]
    for given, grad in zip(tensors, grads.values(), strict=True):
        given.grad = torch.tensor(grad)
    size = torch.nn.utils.clip_grad_norm_(tensors, 0.5)
    arrays["clip/norm"] = size.numpy()
    for (name, grad), given in zip(grads.items(), tensors, strict=True):
        arrays[f"clip/given.{name}"], arrays[f"clip/clipped.{name}"] = grad, given.grad.numpy()


def record_schedules() -> None:
    schedules = torch.optim.lr_scheduler
    steps = 12
    schedule("constant", "constant", {}, steps, lambda o: schedules.LambdaLR(o, lambda _: 1.0))
    options = {"every": 3, "gamma": 0.5}
    schedule("step", "step", options, steps, lambda o: schedules.StepLR(o, 3, 0.5))
    schedule(
        "cosine",
        "cosine",
        {"floor": 0.1},
        steps,
        lambda o: schedules.CosineAnnealingLR(o, steps - 1, 0.1),
    )
    schedule(
        "warmup",
        "constant",
        {"warmup": 4},
        steps,
        lambda o: schedules.LinearLR(o, start_factor=0.25, total_iters=3),
    )


def record_network() -> None:
    """A small classifier: loss, gradients, and its parameters after three steps."""
    layers = [
        {"name": "conv", "op": "conv2d", "filters": 4, "kernel": [3, 3]},
        {"name": "norm", "op": "batch_norm"},
        {"name": "active", "op": "relu"},
        {"name": "small", "op": "max_pool"},
        {"name": "flat", "op": "flatten"},
        {"name": "logits", "op": "dense", "units": 3},
    ]
    shapes = {"conv.weight": (3, 3, 2, 4), "conv.bias": (4,)}
    shapes |= {f"norm.{part}": (4,) for part in ("weight", "bias", "running_mean", "running_var")}
    shapes |= {"logits.weight": (36, 3), "logits.bias": (3,)}
    params = {name: parameter(name, shape) for name, shape in shapes.items()}
    x, classes = normal(5, 6, 6, 2), RNG.integers(0, 3, 5)
    weights = {name: torch.tensor(p) for name, p in params.items()}
    trained = [p.requires_grad_() for name, p in weights.items() if "running" not in name]
    stepper = torch.optim.SGD(trained, lr=0.1, momentum=0.9)
    losses = []
    for _ in range(3):
        stepper.zero_grad()
        found = functional.cross_entropy(classify(torch.tensor(x), weights), torch.tensor(classes))
        found.backward()
        losses.append(found.item())
        if len(losses) == 1:
            put("network", "d", {n: p.grad for n, p in weights.items() if p.grad is not None})
        stepper.step()
    put("network", "p", params)
    put("network", "after", weights)
    arrays.update({"network/x": x, "network/classes": classes, "network/loss": np.array(losses)})
    spec = [{"name": "x", "dtype": "float32", "shape": [6, 6, 2]}]
    manifest["network"] = {"inputs": spec, "layers": layers, "outputs": ["logits"]}


def classify(x: Tensor, p: Mapping[str, Tensor]) -> Tensor:
    y = functional.conv2d(nchw(x), p["conv.weight"].permute(3, 2, 0, 1), p["conv.bias"], padding=1)
    running = p["norm.running_mean"], p["norm.running_var"]
    y = functional.batch_norm(y, *running, p["norm.weight"], p["norm.bias"], training=True)
    y = nhwc(functional.max_pool2d(functional.relu(y), 2)).flatten(1)
    return functional.linear(y, p["logits.weight"].T, p["logits.bias"])
