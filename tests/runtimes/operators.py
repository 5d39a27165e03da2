"""What an operator could write: runtimes of their own, named by the tests' configurations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from aiaas_async.errors import ArtifactError
from aiaas_async.formats.safetensors import map_tensors, write_tensors
from aiaas_async.runtimes.base import Array, Arrays


def store_pipeline(pipeline: Pipeline, path: Path) -> None:
    """A fitted pipeline of a scaler and a classifier as plain arrays."""
    scaler, classifier = pipeline[0], pipeline[1]
    write_tensors(
        path,
        {
            "mean": scaler.mean_,
            "scale": scaler.scale_,
            "coef": classifier.coef_,
            "intercept": classifier.intercept_,
            "classes": classifier.classes_,
        },
    )


class SklearnPipeline:
    """A scikit-learn pipeline put together again from its arrays: data, not pickled code."""

    def load(self, files: Mapping[str, Path], graph: Mapping[str, Any] | None) -> None:
        stored = map_tensors(files["pipeline.safetensors"]).tensors
        scaler, classifier = StandardScaler(), LogisticRegression()
        scaler.mean_, scaler.scale_ = stored["mean"], stored["scale"]
        classifier.coef_, classifier.intercept_ = stored["coef"], stored["intercept"]
        classifier.classes_ = stored["classes"]
        self.pipeline = Pipeline([("scale", scaler), ("classify", classifier)])

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        chances = self.pipeline.predict_proba(arrays["features"])
        classes = self.pipeline[-1].classes_
        return {"label": classes[chances.argmax(1)], "probabilities": chances}


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


class Silent:
    """Lacks what a runtime must have."""

    def load(self, files: Mapping[str, Path], graph: Mapping[str, Any] | None) -> None: ...


class Choosy:
    def __init__(self, needed: int) -> None: ...


class Shelf:
    Inner = Polynomial
