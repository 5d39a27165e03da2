"""What is said of a field that does not fit: its name, what it may be, what was given."""

from __future__ import annotations

from typing import Any

import pytest

from aiaas_async.errors import InvalidError
from aiaas_async.service.asked import read_asked
from aiaas_async.service.batch import BatchRequest
from aiaas_async.service.deploymentspec import parse_spec


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"model": "m", "split": "foo"},
            "deployment: split must be one of pipeline, tensor, got 'foo'",
        ),
        (
            {"model": "m", "mode": 5},
            "deployment: mode must be one of centralized, distributed, got 5",
        ),
        (
            {"model": "m", "replicas": 0},
            "deployment: replicas must be a whole number of at least 1, got 0",
        ),
        ({"model": 5}, "deployment: model must be a text, got 5"),
        ({}, "deployment: model is missing"),
    ],
)
def test_a_deployment_that_cannot_be_names_the_field_and_its_choices(
    body: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidError) as raised:
        parse_spec(body)
    assert raised.value.message == said


def test_a_request_that_cannot_be_names_the_field() -> None:
    with pytest.raises(InvalidError, match="batch request: model must be a text, got 5"):
        read_asked({"model": 5}, BatchRequest, "batch request")
