"""Synthetic data in the shape of MNIST, the same bits for every contender."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

BATCH = 128
RATE, MOMENTUM = 0.05, 0.9
ITEMS = {"mlp": 128 * 160, "cnn": 128 * 24}
WARM_UP = 128 * 8

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
Train = Callable[[Images, Labels], float]


def mnist_like(n: int) -> tuple[Images, Labels]:
    """n images [n, 28, 28, 1] around ten random prototypes, and their classes [n]."""
    rng = np.random.default_rng(0)
    prototypes = rng.random((10, 28, 28, 1), np.float32)
    labels = rng.integers(0, 10, n)
    noise = rng.random((n, 28, 28, 1), np.float32)
    return (prototypes[labels] + noise) / 2, labels


def batches(n: int) -> Iterator[NDArray[np.int64]]:
    """Shuffled index batches; drawing and gathering is part of what is timed."""
    order = np.random.default_rng(1).permutation(n)
    for start in range(0, n, BATCH):
        yield order[start : start + BATCH]


def run(contenders: dict[str, Callable[[], Train]]) -> None:
    """Time one epoch of the model named on the command line, and print the figures as JSON.

    A contender builds a model and gives back what trains it for one epoch, returning the last
    batch's loss.
    """
    model = sys.argv[1]
    images, labels = mnist_like(ITEMS[model])
    train = contenders[model]()
    train(images[:WARM_UP], labels[:WARM_UP])
    start = time.perf_counter()
    loss = train(images, labels)
    seconds = time.perf_counter() - start
    print(json.dumps({"samples_per_second": len(images) / seconds, "loss": loss}))
