"""Long JSON is taken apart and put together again without loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import MalformedError, TooLargeError
from aiaas_async.wire.longjson import (
    MAX_REST,
    REST,
    Apart,
    put_together,
    read_apart,
    read_with_arrays,
)
from aiaas_async.wire.longlists import MAX_LISTS

numbers = st.one_of(
    st.lists(st.integers(-(2**70), 2**70), max_size=200),
    st.lists(st.integers(2**63, 2**64 - 1), min_size=30, max_size=60),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=200),
    st.lists(st.lists(st.integers(-5, 5), min_size=3, max_size=3), max_size=80),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(max_size=5), st.integers(-9, 9), numbers),
    lambda inner: st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return Numbers(value)
    if isinstance(value, dict):
        return {key: plain(held) for key, held in value.items()}
    return value


class Numbers:
    """An array that is to stand for a list: whole numbers are whole in it, if all are."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __eq__(self, other: object) -> bool:
        whole = all(type(leaf) is int for leaf in leaves(other))
        return self.array.tolist() == other and (self.array.dtype.kind in "iu") == whole

    __hash__ = None  # type: ignore[assignment]


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for each in value:
            yield from leaves(each)
    else:
        yield value


@given(st.dictionaries(st.text(max_size=4), values, max_size=4))
def test_what_is_taken_apart_and_put_together_is_the_same(value: dict[str, Any]) -> None:
    assert plain(put_together(read_apart(msgspec.json.encode(value)))) == value


@given(st.dictionaries(st.text(max_size=4), values, max_size=4))
def test_a_short_body_is_read_alike_without_leaving(value: dict[str, Any]) -> None:
    body = msgspec.json.encode(value)
    found = read_with_arrays(body)
    assert plain(found) == value


@given(st.dictionaries(st.text(max_size=4), values, max_size=4))
def test_where_no_tensors_come_nothing_changes(value: dict[str, Any]) -> None:
    arrays = read_apart(msgspec.json.encode(value), tensors=False)
    assert list(arrays) == [REST]
    assert repr(put_together(arrays)) == repr(msgspec.json.decode(msgspec.json.encode(value)))


def test_lists_of_numbers_leave_as_arrays_of_their_kind() -> None:
    body = {
        "inputs": {"whole": [[1, 2]] * 50, "real": [1.5] * 100, "short": [1.0] * 5},
        "texts": ["a"] * 100,
        "of objects": [{"real": [1.5] * 100}],
        "mixed": [1.0, None] * 100,
        "ragged": [[1.0], [1.0, 2.0]] * 50,
        "truths": [True] * 100,
    }
    arrays = read_apart(msgspec.json.encode(body))
    apart = msgspec.json.decode(arrays.pop(REST).tobytes(), type=Apart)
    assert apart.places == [["inputs", "whole"], ["inputs", "real"]]
    assert [(a.dtype.name, a.shape) for a in arrays.values()] == [
        ("int64", (50, 2)),
        ("float64", (100,)),
    ]
    assert apart.rest["inputs"]["short"] == [1.0] * 5
    assert [apart.rest[name] for name in ("mixed", "ragged")] == [body["mixed"], body["ragged"]]


def test_numbers_within_a_list_of_objects_stay_lists() -> None:
    body = {"items": [{"x": [1.5] * 100}, {"x": [2.5] * 100}], "y": [3.5] * 100}
    arrays = read_apart(msgspec.json.encode(body))
    assert sorted(arrays) == ["0", REST]
    found = put_together(arrays)
    assert found["items"] == body["items"]
    assert plain(found) == body


def test_more_than_a_mebibyte_that_is_no_numbers_is_refused() -> None:
    body = msgspec.json.encode({"text": "x" * (MAX_REST + 1)})
    with pytest.raises(TooLargeError, match="no lists of numbers"):
        read_apart(body)


def test_what_is_no_json_is_malformed() -> None:
    with pytest.raises(MalformedError):
        read_apart(b'{"a": [1, 2')


def test_the_arrays_apart_are_bounded_in_number() -> None:
    body = {f"x{n}": [n] * 200 for n in range(MAX_LISTS + 50)}
    arrays = read_apart(msgspec.json.encode(body))
    assert len(arrays) == MAX_LISTS + 1
    assert plain(put_together(arrays)) == body
