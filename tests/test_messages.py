"""Metadata: what a user writes is checked, kept, and given back as it was written."""

from typing import Any

import pytest

from aiaas_async.errors import InvalidError
from aiaas_async.messages import TensorSpec, parse_metadata, render_metadata

SEED: dict[str, Any] = {
    "name": "image_classifier",
    "version": "1.0",
    "inputs": ["image"],
    "outputs": ["label"],
    "resources": {"cpu": 4, "memory": 16},
}


def test_metadata_by_bare_names_comes_back_as_it_was_written() -> None:
    assert render_metadata(parse_metadata(SEED)) == SEED


def test_a_typed_input_comes_back_typed() -> None:
    typed = SEED | {"inputs": [{"name": "image", "dtype": "float32", "shape": [3, 224, 224]}]}
    metadata = parse_metadata(typed)
    assert metadata.inputs == (TensorSpec("image", "float32", (3, 224, 224)),)
    assert parse_metadata(render_metadata(metadata)) == metadata


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"inputs": "image"}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": ["a", "a"]}, "repeat"),
        ({"inputs": [{"name": "a", "dtype": "object"}]}, "object"),
        ({"inputs": [{"name": "a", "dtype": "float32", "shape": [-2]}]}, "-2"),
        ({"inputs": [{"name": "a", "dtype": "float32", "shape": [1] * 9}]}, "8 dimensions"),
        ({"colour": "red"}, "colour"),
        ({"resources": {"cpu": -1}}, "cpu"),
        ({"metrics": {"accuracy": float("nan")}}, "accuracy"),
        ({"version": 1.0}, "version"),
    ],
)
def test_a_bad_field_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidError, match=named):
        parse_metadata(SEED | change)
