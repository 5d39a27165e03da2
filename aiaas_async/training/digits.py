"""A recipe for the digits that come with the package (`data/digits.py`)."""

from __future__ import annotations

from typing import Any


def digits_graph() -> dict[str, Any]:
    """A small CNN from images [8, 8, 1] of 0 to 16 to `label`, a digit, and its `logits`."""
    return {
        "inputs": [{"name": "image", "dtype": "float32", "shape": [8, 8, 1]}],
        "layers": [
            {"name": "scaled", "op": "scale", "factor": 0.0625},
            {"name": "conv1", "op": "conv2d", "filters": 16, "kernel": [3, 3]},
            {"name": "relu1", "op": "relu"},
            {"name": "conv2", "op": "conv2d", "filters": 32, "kernel": [3, 3]},
            {"name": "relu2", "op": "relu"},
            {"name": "pool", "op": "max_pool"},
            {"name": "flat", "op": "flatten"},
            {"name": "hidden", "op": "dense", "units": 64},
            {"name": "relu3", "op": "relu"},
            {"name": "kept", "op": "dropout", "rate": 0.3},
            {"name": "logits", "op": "dense", "units": 10},
            {"name": "label", "op": "argmax"},
        ],
        "outputs": ["label", "logits"],
    }


def digits_plan() -> dict[str, Any]:
    """About 0.99 of held-out digits right; the columns are `image` and `label`."""
    return {
        "method": "sgd",
        "epochs": 15,
        "batch_size": 32,
        "optimizer": "adam",
        "learning_rate": 0.002,
        "schedule": {"name": "cosine", "floor": 0.02},
        "seed": 7,
        "validation": 0.1,
        "target": "label",
    }
