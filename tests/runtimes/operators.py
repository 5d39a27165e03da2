"""What an operator could write: runtimes of their own, named by the tests' configurations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aiaas_async.errors import ArtifactError
from aiaas_async.runtimes.base import Array, Arrays


class Polynomial:
    """y = a x² + b, from a JSON file; with a loss and its gradient."""

    closed = 0

    def load(self, files: Mapping[str, Path], graph: Mapping[str, Any] | None) -> None:
        self.a, self.b = json.loads(files["polynomial.json"].read_text())

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        return {"y": self.a * arrays["x"] ** 2 + self.b}

    def loss(self, inputs: Arrays, targets: Arrays, loss: str | None, output: str | None) -> float:
        return float(np.mean(self._error(inputs, targets) ** 2))

    def gradient(
        self, inputs: Arrays, targets: Arrays, loss: str | None, output: str | None, wrt: str
    ) -> tuple[float, dict[str, Array], dict[str, Array]]:
        x, slope = inputs["x"], 2 * self._error(inputs, targets) / len(inputs["x"])
        by_input = {"x": slope * 2 * self.a * x} if wrt != "parameters" else {}
        by_parameter = {"a": (slope * x**2).sum()[None]} if wrt != "inputs" else {}
        return self.loss(inputs, targets, loss, output), by_input, by_parameter

    def _error(self, inputs: Arrays, targets: Arrays) -> Array:
        found: Array = self.predict(inputs)["y"] - targets["y"]
        return found

    def close(self) -> None:
        type(self).closed += 1


class LossOnly(Polynomial):
    gradient = None  # type: ignore[assignment]


class Echo:
    """Gives what the test tells it to."""

    gives: Any = None

    def load(self, files: Mapping[str, Path], graph: Mapping[str, Any] | None) -> None:
        if "refused" in files:
            raise ArtifactError("the file 'refused' is not wanted")
        if "large" in files:
            raise MemoryError
        if "broken" in files:
            raise KeyError("/a/path/on/the/server")

    def predict(self, arrays: Arrays) -> Any:
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


class Keeper:
    """Answers from what it was given the call before."""

    def load(self, files: Mapping[str, Path], graph: Mapping[str, Any] | None) -> None:
        self.kept: Array | None = None

    def predict(self, arrays: Arrays) -> dict[str, Array]:
        before, self.kept = self.kept, arrays["x"]
        return {"y": arrays["x"] if before is None else before}

    def loss(self, inputs: Arrays, targets: Arrays, loss: str | None, output: str | None) -> float:
        before, self.kept = self.kept, targets["y"]
        return 0.0 if before is None else float(before.mean())

    def gradient(
        self, inputs: Arrays, targets: Arrays, loss: str | None, output: str | None, wrt: str
    ) -> tuple[float, dict[str, Array], dict[str, Array]]:
        return self.loss(inputs, targets, loss, output), {}, {}


class Silent:
    """Lacks what a runtime must have."""

    def load(self, files: Mapping[str, Path], graph: Mapping[str, Any] | None) -> None: ...


class Choosy:
    def __init__(self, needed: int) -> None: ...


class Shelf:
    Inner = Polynomial
