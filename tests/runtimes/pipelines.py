"""A scikit-learn pipeline as an operator would serve it. In a file of its own, since scikit-learn
takes 0.8 s to import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from aiaas_async.formats.safetensors import map_tensors, write_tensors
from aiaas_async.runtimes.base import Arrays


def fitted_to_irises() -> tuple[Pipeline, Any]:
    """The pipeline, and what it was fitted to."""
    features, species = load_iris(return_X_y=True)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(features, species), features


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
