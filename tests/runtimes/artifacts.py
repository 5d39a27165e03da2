"""Artifacts for the tests: a small classifier and its weights on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.nn.network import Network
from aiaas_async.runtimes.base import Array, Artifact

GRAPH: dict[str, Any] = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [4]}],
    "layers": [
        {"name": "hidden", "op": "dense", "units": 5},
        {"name": "active", "op": "relu"},
        {"name": "logits", "op": "dense", "units": 3},
        {"name": "probabilities", "op": "softmax"},
        {"name": "label", "op": "argmax", "inputs": ["logits"], "labels": ["a", "b", "c"]},
    ],
    "outputs": ["label", "probabilities"],
}
BARE: dict[str, Any] = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [4]}],
    "layers": [{"name": "doubled", "op": "scale", "factor": 2.0}],
    "outputs": ["doubled"],
}


def network() -> Network:
    return Network.from_spec(GRAPH)


def params() -> dict[str, Array]:
    return network().init(3)


def artifact(folder: Path, tensors: dict[str, Array] | None = None) -> Artifact:
    """The classifier, or `GRAPH` with other weights."""
    path = folder / "0a1b"  # as in the store: the label says what it is, not the path
    write_tensors(path, params() if tensors is None else tensors)
    return Artifact({"model.safetensors": path}, GRAPH)


def rows(count: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal((count, 4)).astype(np.float32)
