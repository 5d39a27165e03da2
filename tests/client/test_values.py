"""Numpy in, numpy out."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from aiaas_async.client.values import as_array, pack, pack_all, unpack
from aiaas_async.errors import InputError
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.wire.codecs import MSGPACK

shapes = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
unicode = st.characters(exclude_categories=["Cs"])
numbers = st.sampled_from(sorted(NUMPY.values(), key=str)).flatmap(
    lambda dtype: npst.arrays(dtype, shapes)
)


def there_and_back(value: Any) -> Any:
    encoded = MSGPACK.encode({"a": pack(as_array(value, "a"), "a")})
    MSGPACK.decode(encoded)  # the server's decoder takes it
    return unpack(msgspec.msgpack.decode(encoded))["a"]


@given(numbers)
def test_every_dtype_and_shape_survives_bit_by_bit(array: np.ndarray[Any, Any]) -> None:
    back = there_and_back(array)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable


kept = st.text(unicode, max_size=8).filter(lambda text: not text.endswith("\0"))


@given(npst.arrays(np.dtype("U8"), shapes, elements=kept))
def test_texts_survive_in_every_shape(array: np.ndarray[Any, Any]) -> None:
    back = there_and_back(array)
    assert back.shape == array.shape
    assert back.tolist() == array.tolist()


@pytest.mark.parametrize(
    "value", [["a", "b\0"], [["a"], ["b\0"]], "\0", np.array(["a", "b\0"], dtype=object)]
)
def test_texts_that_an_array_would_cut_at_a_nul_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"a: text . ends in a NUL character"):
        as_array(value, "a")


def test_more_texts_than_a_list_may_have_are_sent() -> None:
    texts = [f"text {n}" for n in range(10_000)]
    assert there_and_back(texts).tolist() == texts


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.arange(12.0).reshape(3, 4).T,
        np.arange(10)[::-2],
        np.array(["a", "bc"], dtype=object),
    ],
)
def test_layout_and_byte_order_are_no_concern_of_the_caller(array: np.ndarray[Any, Any]) -> None:
    assert there_and_back(array).tolist() == array.tolist()


def test_lists_and_scalars_become_arrays() -> None:
    assert as_array([[1, 2], [3, 4]], "a").dtype.kind == "i"
    assert as_array(0.1, "a").dtype == np.float64
    assert as_array(0.1, "a") == 0.1
    assert as_array("text", "a").shape == ()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([[1, 2], [3]], r": the list at \[0\] has 2 values, the one at \[1\] has 1"),
        (["a", 1], r" has a text at \[0\] and a number at \[1\]"),
        ([1, "a"], r" has a number at \[0\] and a text at \[1\]"),
        ([[1, 2], [3, None]], r" holds null at \[1, 1\]"),
        (None, " is null$"),
        ({"a": 1}, " is an object"),
        (b"raw", " is binary data"),
        (object(), " holds what is neither a number of 64 bits nor a text"),
        (np.array([1 + 2j]), " has dtype complex128: give numbers or texts"),
        (json.loads("[" * 900 + "]" * 900), " has lists within lists more than 9"),
    ],
)
def test_what_is_no_array_is_refused_by_name_in_words_that_are_not_numpy_s(
    value: Any, said: str
) -> None:
    with pytest.raises(InputError, match=f"^input 'image'{said}"):
        pack_all({"image": value}, "input")


def test_a_text_that_is_not_unicode_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="input 'name' holds a text that is not Unicode"):
        pack_all({"name": ["fine", "half \ud800"]}, "input")


def test_no_inputs_at_all_are_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        pack_all({}, "input")


def test_scalars_and_lists_of_an_answer_stay_what_they_are() -> None:
    assert unpack({"label": 3, "names": ["a", "b"], "none": None}) == {
        "label": 3,
        "names": ["a", "b"],
        "none": None,
    }


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            [np.array([1, 2]), np.array([1, 2, 3])],
            "the list at [0] has 2 values, the one at [1] has 3",
        ),
        ([np.array([1, 2]), [3]], "the list at [0] has 2 values, the one at [1] has 1"),
        ([range(2), [1, 2, 3]], "the list at [0] has 2 values, the one at [1] has 3"),
    ],
)
def test_uneven_arrays_are_told_like_uneven_lists(value: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        as_array(value, "input x")
    assert said in str(caught.value)
