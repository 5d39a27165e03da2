"""Bodies of generate: what fields become, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import InputError, RequestError
from aiaas_async.messages import TensorSpec
from aiaas_async.wire.open_inference import Model
from aiaas_async.wire.sequences import Mark
from aiaas_async.wire.v2generate import generated_lists, read_generate, write_generated

TEXT = TensorSpec("text_input", "string", (1,))


def model(*inputs: TensorSpec) -> Model:
    return Model("m", inputs or (TEXT,), (TensorSpec("text_output", "string", (1,)),))


def read(value: Any, *inputs: TensorSpec) -> Any:
    return read_generate(json.dumps(value).encode(), model(*inputs))


@given(st.lists(st.text(max_size=20) | st.just("a\0"), min_size=1, max_size=5))
def test_texts_arrive_as_they_were_sent_or_are_refused(texts: list[str]) -> None:
    if any(text.endswith("\0") for text in texts):
        with pytest.raises(InputError, match=r"'text_input': text . ends in a NUL character"):
            read({"text_input": texts})
    else:
        found = read({"text_input": texts}).inputs["text_input"]
        assert found.tolist() == [[text] for text in texts]


@pytest.mark.parametrize(
    ("shape", "count", "expected"),
    [
        ((), 3, (3,)),
        ((1,), 3, (3, 1)),
        ((2,), 4, (2, 2)),
        ((-1,), 3, (1, 3)),
        ((-1, 2), 4, (1, 2, 2)),
        ((-1, -1), 3, (1, 1, 3)),
    ],
)
def test_values_fill_fixed_sizes_and_then_the_innermost_open_one(
    shape: tuple[int, ...], count: int, expected: tuple[int, ...]
) -> None:
    spec = TensorSpec("x", "int32", shape)
    assert read({"x": list(range(count))}, spec).inputs["x"].shape == expected


@pytest.mark.parametrize(("shape", "count"), [((2,), 3), ((0,), 0), ((3, -1), 2), ((0, -1), 1)])
def test_values_that_fill_no_shape_are_refused(shape: tuple[int, ...], count: int) -> None:
    with pytest.raises(InputError, match="can not convert input 'x'"):
        read({"x": [1] * count}, TensorSpec("x", "int32", shape))


def test_terms_stand_among_the_fields_or_the_parameters() -> None:
    fields = {"timeout": 5, "priority": 2, "sequence_id": "a", "sequence_start": True}
    for body in ({"text_input": "a", **fields}, {"text_input": "a", "parameters": fields}):
        terms = read(body).terms
        assert (terms.timeout_us, terms.priority) == (5, 2)
        assert terms.mark == Mark("a", start=True)


def test_an_input_may_be_called_id() -> None:
    found = read({"id": "x"}, TensorSpec("id", "string", (1,)))
    assert (found.id, found.inputs["id"].tolist()) == ("", [["x"]])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["text_input", "n", "id", "parameters", "x"]), _JSON))
def test_whatever_comes_is_read_or_refused_and_nothing_else(body: Any) -> None:
    try:
        found = read(body, TEXT, TensorSpec("n", "int32", (1,)))
    except RequestError:
        return
    assert {len(array) for array in found.inputs.values()} == {len(found.inputs["n"])}


@given(st.binary(max_size=60))
def test_whatever_bytes_come_are_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        read_generate(body, model())


def test_one_value_stands_by_itself_and_several_are_a_list() -> None:
    outputs = {"a": np.array([["x"]]), "b": np.array([[1, 2]]), "c": np.array([True])}
    assert json.loads(write_generated({"model_name": "m"}, outputs)) == {
        "model_name": "m",
        "a": "x",
        "b": [1, 2],
        "c": True,
    }


def test_lists_that_are_long_together_are_written_elsewhere_but_for_single_values() -> None:
    long, one = np.zeros((1, 1 << 14), np.float32), np.array([[7]])
    assert not generated_lists({"a": long})
    assert not generated_lists({"a": one, "b": one})
    assert generated_lists({"a": long, "b": one}).keys() == {"a"}
    written = write_generated({}, {"a": long, "b": one}, {"a": msgspec.Raw(b"[0]")})
    assert json.loads(written) == {"a": [0], "b": 7}
