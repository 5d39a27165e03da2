"""A query is read strictly: whatever makes no sense is named."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.discovery.query import Bound, Query
from aiaas_async.errors import InvalidError, InvalidNameError
from aiaas_async.messages import TensorSpec


def test_every_field_of_the_contract_is_read() -> None:
    query = Query.parse(
        {
            "name": "digits",
            "version": ">=1.0,<2",
            "alias": "champion",
            "inputs": ["image", {"name": "mask", "dtype": "bool", "shape": [8, -1]}],
            "outputs": ["label"],
            "resources": {"cpu": 4, "memory": 16.5},
            "tags": ["vision"],
            "metrics": {"accuracy": ">= 0.9", "loss": "<1e-1", "f1": 0.5},
            "runtime": "numpy",
            "state": "ready",
            "limit": 3,
        }
    )
    assert query.inputs == (TensorSpec("image"), TensorSpec("mask", "bool", (8, -1)))
    assert query.metrics == {
        "accuracy": Bound(">=", 0.9),
        "loss": Bound("<", 0.1),
        "f1": Bound(">=", 0.5),
    }
    assert (query.resources, query.limit) == ({"cpu": 4.0, "memory": 16.5}, 3)


def test_an_empty_query_asks_for_nothing() -> None:
    assert Query.parse({}) == Query()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "a query must be an object, got []"),
        ({"nmae": "x"}, "no field 'nmae'; did you mean 'name'?"),
        ({"zzz": 1}, "no field 'zzz'; fields: name, version"),
        ({1: 1}, "no field 1"),
        ({"name": 1}, "query: name must be a text, got 1"),
        ({"version": ">=x"}, "'>=x' is no version specifier"),
        ({"inputs": ["a", "a"]}, "query: inputs: names repeat"),
        ({"inputs": [{"name": "a", "dtype": "O"}]}, "a has dtype 'O'; known: bool"),
        (
            {"outputs": [{"nom": "a"}]},
            "query: outputs[0] has no field 'nom'; fields: name, dtype, shape",
        ),
        ({"resources": {"cpu": -1}}, "resources: 'cpu' must be >= 0, got -1"),
        ({"resources": {"cpu": float("nan")}}, "resources: 'cpu' must be >= 0"),
        ({"metrics": {"accuracy": "good"}}, "metrics: 'accuracy' must be a bound like '>=0.9'"),
        ({"metrics": {"accuracy": ">=nan"}}, "must be a bound"),
        ({"metrics": {"accuracy": "=>0.9"}}, "must be a bound"),
        ({"metrics": {"accuracy": True}}, "metrics.accuracy must be a number or a text, got True"),
        ({"state": "red"}, "state must be registered, ready or corrupt, got 'red'"),
        ({"state": ["red"]}, "state must be one of corrupt, ready, registered, got ['red']"),
        ({"limit": 0}, "limit must be 1 to 1000, got 0"),
    ],
)
def test_what_makes_no_sense_is_named(body: Any, said: str) -> None:
    with pytest.raises(InvalidError) as caught:
        Query.parse(body)
    assert said in caught.value.message


def test_an_illegal_name_is_refused() -> None:
    with pytest.raises(InvalidNameError):
        Query.parse({"name": "../etc"})


@pytest.mark.parametrize(
    ("bound", "value", "holds"),
    [
        (">=1", 1.0, True),
        (">1", 1.0, False),
        ("<=1", 1.0, True),
        ("<1", 1.0, False),
        ("==1", 1.0, True),
        ("!=1", 1.0, False),
        ("> -1", -0.5, True),
    ],
)
def test_bounds_compare_as_they_say(bound: str, value: float, holds: bool) -> None:
    assert Query.parse({"metrics": {"m": bound}}).metrics["m"].holds(value) is holds


@given(
    st.dictionaries(
        st.sampled_from(Query.__struct_fields__),
        st.recursive(
            st.none() | st.integers() | st.floats() | st.text(max_size=5) | st.booleans(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=5,
        ),
    )
)
def test_any_body_is_a_query_or_invalid(body: dict[str, Any]) -> None:
    with suppress(InvalidError):
        assert isinstance(Query.parse(body), Query)
