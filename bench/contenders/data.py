"""Synthetic data and first parameters, the same bits for every contender.

Equal losses in the end show that the contenders did equal work.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata

import numpy as np
from numpy.typing import NDArray

BATCH = 128
RATE, MOMENTUM = 0.05, 0.9
ITEMS = {"mlp": 128 * 469, "cnn": 128 * 48, "lite0": 60}
WARM_UP = {"mlp": 128 * 8, "cnn": 128 * 8, "lite0": 8}

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
Work = Callable[[Images, Labels], float]

MLP = {"hidden.weight": (784, 256), "hidden.bias": (256,)}
MLP |= {"logits.weight": (256, 10), "logits.bias": (10,)}
CNN = {"conv1.weight": (3, 3, 1, 16), "conv1.bias": (16,)}
CNN |= {"conv2.weight": (3, 3, 16, 32), "conv2.bias": (32,)}
CNN |= {"logits.weight": (7 * 7 * 32, 10), "logits.bias": (10,)}


def mnist_like(n: int) -> tuple[Images, Labels]:
    """n images [n, 28, 28, 1] around ten random prototypes, and their classes [n].

    One class in ten is wrong, or the loss would fall to zero.
    """
    rng = np.random.default_rng(0)
    prototypes = rng.random((10, 28, 28, 1), np.float32)
    labels = rng.integers(0, 10, n)
    noise = rng.random((n, 28, 28, 1), np.float32)
    wrong = rng.random(n) < 0.1
    images: Images = np.multiply(prototypes[labels] + noise, np.float32(0.5))
    return images, np.where(wrong, rng.integers(0, 10, n), labels)


def photos(n: int) -> tuple[Images, Labels]:
    """n random images [n, 224, 224, 3]; nothing is learned from them."""
    images = np.random.default_rng(0).random((n, 224, 224, 3), np.float32)
    return images, np.zeros(n, np.int64)


def drawn(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Images]:
    """First parameters by name, as this project lays them out: [in, out], [kh, kw, in, out]."""
    rng, found = np.random.default_rng(2), {}
    for name, shape in shapes.items():
        fan_in = math.prod(shape[:-1])
        scale = math.sqrt(2 / fan_in) if len(shape) > 1 else 0.01
        found[name] = (scale * rng.standard_normal(shape)).astype(np.float32)
    return found


def batches(n: int) -> Iterator[NDArray[np.int64]]:
    """Shuffled index batches; drawing and gathering is part of what is timed."""
    order = np.random.default_rng(1).permutation(n)
    for start in range(0, n, BATCH):
        yield order[start : start + BATCH]


def run(package: str, contenders: dict[str, Callable[[], Work]]) -> None:
    """Time the model named on the command line, and print the figures as JSON.

    A contender builds a model and gives back what trains it for one epoch, returning the last
    batch's loss; or what computes images one by one, returning the last one's mean output.
    `package` is the distribution whose version is reported. Time is the processor's, all
    threads', so that a busy neighbour costs nobody.
    """
    model = sys.argv[1]
    images, labels = (photos if model == "lite0" else mnist_like)(ITEMS[model])
    work = contenders[model]()
    work(images[: WARM_UP[model]], labels[: WARM_UP[model]])
    start = time.process_time()
    loss = work(images, labels)
    seconds = time.process_time() - start
    figures = {
        "samples_per_second": len(images) / seconds,
        "loss": loss,
        "version": f"{package} {metadata.version(package)}",
    }
    print(json.dumps(figures))
