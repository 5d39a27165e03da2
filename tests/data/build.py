"""Small data sets for the tests of this folder."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiaas_async.data.dataset import Dataset
from aiaas_async.data.schema import DatasetSpec, parse_spec
from aiaas_async.ring.hashring import Ring

SECRET = bytes(range(16))
BODY = {
    "columns": {
        "image": {"dtype": "uint8", "shape": [2, 3]},
        "label": {"dtype": "int64", "shape": []},
    }
}


def ring_of(nodes: int) -> Ring:
    return Ring([f"node-{i}" for i in range(nodes)], SECRET, 16)


def spec_of(replication: int = 1) -> DatasetSpec:
    return parse_spec("digits", "ab12", {**BODY, "replication": replication}, 1.0)


def new(folder: Path, nodes: int = 3, replication: int = 1) -> Dataset:
    return Dataset.create(folder, spec_of(replication), ring_of(nodes))


def columns(labels: list[int]) -> dict[str, NDArray[Any]]:
    """One item per label; the image is made of the label."""
    numbers = np.array(labels, np.int64)
    image = (numbers[:, None, None] + np.arange(6).reshape(2, 3)) % 251
    return {"image": image.astype(np.uint8), "label": numbers}


def content(dataset: Dataset) -> dict[str, int]:
    """Key to label, in the order of arrival; images are checked on the way."""
    source = dataset.source()
    everything = np.arange(len(source))
    taken = source.take(everything)
    expected = columns(taken["label"].tolist())
    np.testing.assert_array_equal(taken["image"], expected["image"])
    return dict(zip(source.keys(everything), taken["label"].tolist(), strict=True))
