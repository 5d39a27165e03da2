"""Jobs for the tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiaas_async.compute.jobs import ArtifactFiles, Load, Train
from tests.runtimes.artifacts import BARE, GRAPH, artifact
from tests.training import data as training

LONG = {"epochs": 100_000, "batch_size": 4, "checkpoint_every_s": 3600}


def classifier(folder: Path) -> ArtifactFiles:
    files = {label: str(path) for label, path in artifact(folder).files.items()}
    return ArtifactFiles("numpy", files, GRAPH)


def load_classifier(folder: Path) -> Load:
    return Load("classifier", classifier(folder))


def load_doubler() -> Load:
    """The model y = 2 x without weights; x has 4 numbers."""
    return Load("doubler", ArtifactFiles("numpy", {}, BARE))


def train(folder: Path, **plan: Any) -> Train:
    """Train on the points of `tests/training`, in `folder`/job."""
    manifest = training.stored(folder / "data")
    task = {"plan": plan, "data": manifest, "start": "graph"}
    return Train(ArtifactFiles("numpy", {}, training.GRAPH), task, str(folder / "job"))
