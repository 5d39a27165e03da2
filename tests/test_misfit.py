"""What does not fit is told by its place, what it must be, and what was given."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from aiaas_async.misfit import misfit


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    dtype: Literal["uint8", "int64"] | None = None
    shape: tuple[int, ...] = ()


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    colour: Literal["red", "green"] = "red"
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    nodes: Annotated[int, msgspec.Meta(gt=0)] | None = None
    columns: dict[str, Inner] = {}
    bounds: dict[str, float | str] = {}
    parts: tuple[str | Inner, ...] = ()
    pair: tuple[int, int] = (0, 0)
    ranks: dict[int, int] = {}
    counts: dict[str, Annotated[int, msgspec.Meta(ge=1)]] = {}
    padding: Literal["same", "valid"] | tuple[int, int] = "valid"
    label: Annotated[str, msgspec.Meta(min_length=1)] = "a"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "name is missing"),
        ({"name": 3}, "name must be a text, got 3"),
        ({"nam": "a"}, "has no field 'nam'; fields: name, colour, share, nodes, columns"),
        ({"colour": "blue"}, "colour must be one of green, red, got 'blue'"),
        ({"colour": 3}, "colour must be one of green, red, got 3"),
        ({"share": "x"}, "share must be a number, got 'x'"),
        ({"share": 2}, "share must be a number of at most 1.0, got 2"),
        ({"nodes": 0}, "nodes must be a whole number of at least 1, got 0"),
        ({"nodes": True}, "nodes must be a whole number, got True"),
        ({"columns": 3}, "columns must be an object, got 3"),
        (
            {"columns": {"a": {"dtype": "int64"}, "b": {"dtype": 3}}},
            "columns.b.dtype must be one of int64, uint8, got 3",
        ),
        ({"columns": {"b": {"shap": 3}}}, "columns.b has no field 'shap'; fields: dtype, shape"),
        ({"bounds": {"a": 1, "b": [2]}}, "bounds.b must be a number or a text, got [2]"),
        ({"columns": {"a": {}, "b": {"x\ny": 3}}}, r"columns.b has no field 'x\ny'; fields: dtype"),
        ({"counts": {"a": 1, "b": 0}}, "counts: a value must be a whole number of at least 1"),
        ({"counts": {"b": 0}}, "counts.b must be a whole number of at least 1, got 0"),
        ({"padding": "full"}, "padding must be one of same, valid, got 'full'"),
        ({"padding": 3}, "padding must be a text or a list, got 3"),
        ({"parts": ["a", 3]}, "parts[1] must be a text or an object, got 3"),
        ({"parts": [{"shape": "x"}]}, "parts[0].shape must be a list, got 'x'"),
        ({"parts": [{"shap": 3}]}, "parts[0] has no field 'shap'; fields: dtype, shape"),
        ({"pair": [1]}, "pair must be a list of length 2, got [1]"),
        ({"ranks": {"x": 1}}, "ranks: a key must be a whole number"),
        ({"label": ""}, "label must be a text of length >= 1, got ''"),
        ([], "must be an object, got []"),
    ],
)
def test_what_does_not_fit_is_told_in_our_words(given: Any, said: str) -> None:
    whole = {"name": "n"} | given if isinstance(given, dict) and given else given
    if isinstance(given, dict) and "nam" in given:
        whole = given
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert(whole, Outer, strict=True)
    assert misfit(raised.value, whole, Outer).startswith(said)


def test_a_place_leads_the_path() -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert({"shape": ["x"]}, Inner, strict=True)
    said = misfit(raised.value, {"shape": ["x"]}, Inner, "plan.loss")
    assert said == "plan.loss.shape[0] must be a whole number, got 'x'"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
NAMES = st.sampled_from(["name", "dtype", "shape", "columns", "a`b", "x]"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(Outer.__struct_fields__)


@examples(st.dictionaries(FIELDS, VALUES, max_size=3))
def test_whatever_is_wrong_is_told_without_the_words_of_the_validator(body: Any) -> None:
    try:
        msgspec.convert(body, Outer, strict=True)
    except msgspec.ValidationError as error:
        said = misfit(error, body, Outer)
        assert not said.startswith((" ", ":"))
        assert "Expected" not in said
        assert "$" not in said.partition(", got")[0]
