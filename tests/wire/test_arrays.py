"""Inputs against a signature: what fits, what is converted, and what each refusal says."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import InputError
from aiaas_async.messages import TensorSpec
from aiaas_async.wire.arrays import read_array, read_inputs, squeeze
from aiaas_async.wire.tensors import pack_strings, pack_tensor

X = TensorSpec("x", "float32", (2, 3))
ITEM: list[list[float]] = [[1, 2, 3], [4, 5, 6.5]]


def read(value: Any, spec: TensorSpec = X, **options: bool) -> Any:
    return read_inputs({"x": value}, [spec], **options)


def test_exactly_the_shape_is_one_item_and_one_more_dimension_a_batch() -> None:
    one, many = read(ITEM), read([ITEM, ITEM])
    assert (one.count, one.batched) == (1, False)
    assert (many.count, many.batched) == (2, True)
    assert one.arrays["x"].shape == (1, 2, 3)
    assert one.arrays["x"].dtype == np.float32


@pytest.mark.parametrize(
    "value",
    [np.array(ITEM, np.float64), np.array(ITEM, np.float16), pack_tensor(np.array(ITEM, np.int32))],
)
def test_other_number_types_become_the_floats_asked_for(value: Any) -> None:
    assert read(value).arrays["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("spec", "value", "said"),
    [
        (X, [1, 2], r"expects x: float32 \[2, 3\].*got float32 \[2\]"),
        (X, [[ITEM]], r"got float32 \[1, 1, 2, 3\]"),
        (X, [[1, 2, 3], [4, 5]], r"\[0\] has 3 values, the one at \[1\] has 2; got \[\[1, 2, 3\]"),
        (X, [[1, 2], [3]], r"has 1; got \[\[1, 2\], \[3\]\]; expected: x: float32 \[2, 3\]$"),
        (X, [["a", "b", "c"]] * 2, "got string"),
        (X, [[1, "2", 3]] * 2, r"'x' has a number at \[0, 0\] and a text at \[0, 1\]"),
        (TensorSpec("x", "int64", (2,)), [1, "2"], r"a number at \[0\] and a text at \[1\]"),
        (TensorSpec("x", "int64", (2,)), [1, None], r"'x' holds null at \[1\]"),
        (X, None, r"'x' is null; expected: x: float32 \[2, 3\]$"),
        (X, {"a": 1}, "dtype, shape, data"),
        (X, [[1, None, 3]] * 2, r"'x' holds null at \[0, 1\]"),
        (X, [], r"got float32 \[0\]"),
        (X, np.empty((0, 2, 3), np.float32), "empty"),
        (TensorSpec("x", "uint8", ()), 256, "0 to 255"),
        (TensorSpec("x", "uint8", ()), -1, "0 to 255"),
        (TensorSpec("x", "int64", ()), 1.5, "expects x: int64"),
        (TensorSpec("x", "int64", ()), True, "expects x: int64"),
        (TensorSpec("x", "bool", ()), 1, "expects x: bool"),
        (TensorSpec("x", "string", ()), 1, "expects x: string"),
        (TensorSpec("x", "int64", (2,)), [2**70, 1], "a number of 64 bits"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_expected(
    spec: TensorSpec, value: Any, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        read(value, spec)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_numbers_are_refused_unless_the_version_allows_them(bad: float) -> None:
    value = np.array(ITEM, np.float32)
    value[1, 0] = bad
    with pytest.raises(InputError, match=r"at \[1, 0\]"):
        read(value)
    assert read(value, allow_nonfinite=True).count == 1


def test_finite_numbers_whose_sum_overflows_are_fine() -> None:
    assert read(np.full((2, 3), 3e38, np.float32)).count == 1


def test_missing_and_unknown_inputs_are_named() -> None:
    with pytest.raises(InputError, match=r"missing: \['x'\], unknown: \['z'\].*float32 \[2, 3\]"):
        read_inputs({"z": 1}, [X])


def test_inputs_must_agree_in_their_number_of_items() -> None:
    with pytest.raises(InputError, match="number of items"):
        read_inputs({"x": [ITEM, ITEM], "y": 1.0}, [X, TensorSpec("y", "float32", ())])


def test_open_lengths_take_any_length() -> None:
    spec = TensorSpec("x", "int64", (-1,))
    assert read([1, 2, 3], spec).arrays["x"].shape == (1, 3)
    assert read([[1, 2, 3]] * 2, spec).count == 2


def test_texts_are_read_as_strings() -> None:
    found = read(["a", "bc"], TensorSpec("x", "string", ()))
    assert found.arrays["x"].tolist() == ["a", "bc"]


def test_a_list_of_texts_of_which_one_ends_in_a_nul_is_refused() -> None:
    spec = TensorSpec("x", "string", (2,))
    assert read([["a\0b", "c"]], spec).arrays["x"].tolist() == [["a\0b", "c"]]
    said = "^input 'x': text 3 ends in a NUL character, which arrays of texts do not keep; expected"
    with pytest.raises(InputError, match=said):
        read([["a\0b", "c"], ["d", "\0"]], spec)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    )
)
def test_any_decoded_value_is_read_or_refused_by_an_input_error(value: Any) -> None:
    try:
        found = read_array(value, "x")
    except InputError:
        return
    assert found.dtype.kind in "biufU"


def test_outputs_of_a_single_item_lose_the_batch_dimension() -> None:
    arrays = {"label": np.array([7]), "logits": np.zeros((1, 3))}
    assert squeeze(arrays, batched=False)["label"] == 7
    assert squeeze(arrays, batched=False)["logits"].shape == (3,)
    assert squeeze(arrays, batched=True)["logits"].shape == (1, 3)


@pytest.mark.parametrize(
    "raw",
    [
        ["x" * 20_000] + ["y"] * 8_000,
        [["x"] * 4_000, ["y"] * 3_999 + ["z" * 20_000]],
        [1] * 8_000 + ["x" * 20_000],
    ],
)
def test_many_texts_beside_a_long_one_are_refused_before_they_take_memory(raw: Any) -> None:
    no_array = mock.patch.object(np, "array", side_effect=AssertionError("an array was made"))
    with no_array, pytest.raises(InputError, match="too large together"):
        read_array(raw, "input 'x'")


def test_a_tensor_of_many_texts_and_a_long_one_is_refused_before_it_takes_memory() -> None:
    tensor = pack_strings(["x" * 20_000] + ["y"] * 8_000)
    no_array = mock.patch.object(np, "array", side_effect=AssertionError("an array was made"))
    with no_array, pytest.raises(InputError, match="too large together"):
        read_array(tensor, "input 'x'")
