"""PyTorch on the CPU, one thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bench.contenders import lite0
from bench.contenders.data import (
    CNN,
    MLP,
    MOMENTUM,
    RATE,
    Images,
    Labels,
    Work,
    batches,
    drawn,
    run,
)


def trainer(model: nn.Module, parameters: Iterator[torch.Tensor]) -> Work:
    with torch.no_grad():
        for theirs, value in zip(model.parameters(), parameters, strict=True):
            theirs.copy_(value)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    criterion = nn.CrossEntropyLoss()

    def train(images: Images, labels: Labels) -> float:
        x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        target, loss = torch.from_numpy(labels), torch.zeros(())
        for at in map(torch.from_numpy, batches(len(images))):
            optimizer.zero_grad()
            loss = criterion(model(x[at]), target[at])
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    return train


def laid_out(parameters: dict[str, Images]) -> Iterator[torch.Tensor]:
    """The parameters in PyTorch's layouts: [out, in], [out, in, kh, kw]."""
    for value in parameters.values():
        order = {1: (0,), 2: (1, 0), 3: (2, 0, 1), 4: (3, 2, 0, 1)}[value.ndim]
        moved = torch.from_numpy(np.ascontiguousarray(value.transpose(order)))
        yield moved[:, None] if value.ndim == 3 else moved


def mlp() -> Work:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    return trainer(model, laid_out(drawn(MLP)))


def cnn() -> Work:
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 10),
    )
    parameters = drawn(CNN)
    by_pixel = parameters["logits.weight"].reshape(7, 7, 32, 10)
    parameters["logits.weight"] = by_pixel.transpose(2, 0, 1, 3).reshape(-1, 10)
    return trainer(model, laid_out(parameters))


def predictor() -> Work:
    named = drawn(lite0.parameter_shapes())
    parameters = dict(zip(named, laid_out(named), strict=True))
    layers, output = lite0.spec()["layers"], lite0.spec()["outputs"][0]

    def predict(images: Images, labels: Labels) -> float:
        del labels
        with torch.inference_mode():
            x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=CHANNELS_LAST)
            y = x
            for i in range(len(x)):
                y = forward(x[i : i + 1], layers, parameters)[output]
            return float(y.mean())

    return predict


CHANNELS_LAST = torch.channels_last  # the faster of the two here


def forward(
    x: torch.Tensor, layers: list[dict[str, Any]], parameters: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    values = {"": x}
    previous = ""
    for layer in layers:
        name, op = layer["name"], layer["op"]
        y = values[previous]
        if "conv2d" in op:
            y = convolve(y, layer, parameters[f"{name}.weight"], parameters[f"{name}.bias"])
        elif op == "relu6":
            y = functional.relu6(y)
        elif op == "add":
            y = sum(values[source] for source in layer["inputs"])
        elif op == "global_avg_pool":
            y = y.mean((2, 3))
        else:
            y = functional.linear(y, parameters[f"{name}.weight"], parameters[f"{name}.bias"])
        values[name], previous = y, name
    return values


def convolve(
    y: torch.Tensor, layer: dict[str, Any], weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    groups = len(weight) if layer["op"] == "depthwise_conv2d" else 1
    (k, _), (s, _) = layer["kernel"], layer.get("stride", [1, 1])
    total = max(0, (-(-y.shape[2] // s) - 1) * s + k - y.shape[2])
    before, after = total // 2, total - total // 2
    if before != after:
        y, before = functional.pad(y, (before, after, before, after)), 0
    return functional.conv2d(y, weight, bias, s, before, groups=groups)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run("torch", {"mlp": mlp, "cnn": cnn, "lite0": predictor})
