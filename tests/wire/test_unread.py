"""What a worker reads of JSON is what was announced, or it is not read at all."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.messages import TensorSpec
from aiaas_async.wire.tensors import Array
from aiaas_async.wire.unread import Unread, read_raw, read_texts

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def unread(text: bytes, *shape: int) -> Unread:
    def read() -> Array:
        raise AssertionError("nobody asked for it")

    return Unread((memoryview(text),), shape, read)


def end_to_end(texts: list[bytes]) -> Array:
    return np.frombuffer(b"".join(texts), np.uint8)


@given(st.lists(st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=1), min_size=1))
def test_texts_are_read_as_the_rows_they_hold(calls: list[list[list[float]]]) -> None:
    texts = [json.dumps(rows).encode() for rows in calls]
    sizes = [(len(rows), len(text)) for rows, text in zip(calls, texts, strict=True)]
    found, wrong = read_texts(end_to_end(texts), (3,), sizes)
    assert wrong == []
    assert found.dtype == np.float32
    assert found.tolist() == [row for rows in calls for row in rows]


WRONG = {
    "too few": b"[1.0]",
    "too many": b"[1.0, 2.0, 3.0]",
    "no list": b'{"a": [1, 2]}',
    "no JSON": b"[1.0, 2.0",
    "a text": b'[1.0, "2"]',
    "a truth": b"[1.0, true]",
    "beyond float32": b"[1e39, 2.0]",
    "no number": b"[NaN, 2.0]",
}


@pytest.mark.parametrize("what", WRONG)
def test_one_that_cannot_be_read_is_named_and_its_neighbours_are_read(what: str) -> None:
    texts = [b"[1, 2]", WRONG[what], b"[[5.5, 6.5]]"]
    found, wrong = read_texts(end_to_end(texts), (2,), [(1, len(text)) for text in texts])
    assert wrong == [1]
    assert found.tolist() == [[1, 2], [0, 0], [5.5, 6.5]]


def test_raw_numbers_are_viewed_and_those_that_are_not_finite_named() -> None:
    numbers = np.arange(8, dtype=np.float32)
    found, wrong = read_raw(numbers.view(np.uint8), (2,), [(1, 8), (2, 16), (1, 8)])
    assert wrong == []
    assert np.shares_memory(found, numbers)
    assert found.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    numbers[3] = np.nan
    found, wrong = read_raw(numbers.view(np.uint8), (2,), [(1, 8), (2, 16), (1, 8)])
    assert wrong == [1]
    assert found.tolist() == [[0, 1], [0, 0], [0, 0], [6, 7]]
    assert np.isnan(numbers[3])


@pytest.mark.parametrize(
    ("shape", "spec", "fits"),
    [
        ((2, 3), TensorSpec("x", "float32", (3,)), True),
        ((2, 3), TensorSpec("x", "float32", (4,)), False),
        ((2, 3), TensorSpec("x", "float32", (-1,)), False),
        ((2, 3), TensorSpec("x", "float64", (3,)), False),
        ((0, 3), TensorSpec("x", "float32", (3,)), False),
        ((1_000_000, 3), TensorSpec("x", "float32", (3,)), False),  # 12 MB for a few bytes
    ],
)
def test_it_fits_an_input_of_its_shape_that_its_text_can_fill(
    shape: tuple[int, ...], spec: TensorSpec, fits: Any
) -> None:
    assert unread(b"[1, 2, 3, 4, 5, 6]", *shape).fits(spec) is fits
