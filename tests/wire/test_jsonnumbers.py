"""Numbers in JSON become the array that lists of them would."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.wire.jsonnumbers import read_floats, read_numbers, shape_of


def nested(sizes: list[int], flat: list[Any]) -> Any:
    """`flat` as lists of these sizes."""
    if len(sizes) == 1:
        return flat
    step = len(flat) // sizes[0]
    return [nested(sizes[1:], flat[i * step : (i + 1) * step]) for i in range(sizes[0])]


@given(st.data())
def test_evenly_nested_floats_are_read_with_their_shape(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    count = int(np.multiply.reduce(sizes))
    real = st.floats(allow_nan=False, allow_infinity=False)
    flat = data.draw(st.lists(real, min_size=count, max_size=count))
    raw = json.dumps(nested(sizes, flat), indent=data.draw(st.sampled_from([None, 1]))).encode()
    found = read_floats(raw)
    assert found is not None
    assert (found.shape, found.ravel().tolist()) == (tuple(sizes), flat)


UNREADABLE = [
    b"[]",
    b"[[]]",
    b"[1, [2]]",
    b"[[1], 2]",
    b"[[1], [2, 3]]",
    b"[[1, 2], [3], [4, 5, 6]]",
    b"[[[1]], [2]]",
    b'[1, "2"]',
    b"[1, null]",
    b"[true]",
    b"[{}]",
    b"[NaN]",
    b"[1e400]",
    b"[1, 2",
    b"[1] 2",
    b"[01]",
    b"[1,]",
    b"[123456789012345678901234567890]",
    b"7",
    b"null",
    b'"x"',
    b"",
    b"[" * 20 + b"1" + b"]" * 20,
]


@pytest.mark.parametrize("raw", UNREADABLE)
def test_anything_else_is_left_to_slower_ways(raw: bytes) -> None:
    assert read_floats(raw) is None
    assert read_numbers(raw) is None


def test_whole_numbers_stay_whole() -> None:
    found, mixed = read_numbers(b"[[1, -2], [3, 4]]"), read_numbers(b"[1, 2.5]")
    assert found is not None
    assert mixed is not None
    assert (found.dtype.name, found.tolist()) == ("int64", [[1, -2], [3, 4]])
    assert (mixed.dtype.name, mixed.tolist()) == ("float64", [1.0, 2.5])


@given(
    st.recursive(st.just(1), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=8)
)
def test_the_shape_is_what_numpy_sees_or_there_is_none(value: Any) -> None:
    try:
        expected = np.array(value).shape if isinstance(value, list) else None
    except ValueError:
        expected = None
    assert shape_of(json.dumps(value).encode()) == expected


@given(
    st.recursive(st.just(1), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=8)
)
def test_few_lists_have_the_shape_that_many_have(value: Any) -> None:
    raw = json.dumps([value]).encode()
    found = read_numbers(raw)
    assert (None if found is None else found.shape) == shape_of(raw)


def test_many_lists_are_read_with_their_shape() -> None:
    value = [[n, n + 1] for n in range(5000)]
    found = read_numbers(json.dumps(value).encode())
    assert found is not None
    assert found.tolist() == value


@given(st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=50))
def test_whole_numbers_stay_what_they_are_or_are_left_to_others(flat: list[int]) -> None:
    found = read_numbers(json.dumps(flat).encode())
    if found is None:
        assert min(flat) < 0
        assert max(flat) >= 2**63
    else:
        assert found.dtype == (np.int64 if max(flat) < 2**63 else np.uint64)
        assert found.tolist() == flat


def test_whole_numbers_beyond_64_bits_are_no_floats() -> None:
    assert read_numbers(json.dumps([1] * 100 + [2**64]).encode()) is None
    assert read_numbers(json.dumps([-1] + [2**63] * 100).encode()) is None
