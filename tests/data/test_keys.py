"""Packed keys are the keys, however they were handed over and wherever they lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.data.keys import Keys, checked_keys, gather
from aiaas_async.errors import InvalidError

texts = st.lists(st.text(min_size=1, max_size=9), max_size=20)


@given(texts)
def test_packed_keys_come_apart_as_they_went_in(keys: list[str]) -> None:
    packed = checked_keys(keys, len(keys))
    assert [key.decode() for key in packed] == keys
    again = checked_keys(Keys(memoryview(packed.text), packed.lengths.astype(np.int64)), len(keys))
    assert list(again) == list(packed)


@given(texts, st.data())
def test_any_rows_of_packed_keys_can_be_taken(keys: list[str], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(keys) - 1), max_size=30)) if keys else []
    taken = checked_keys(keys, len(keys)).take(np.array(rows, np.int64))
    assert [key.decode() for key in taken] == [keys[row] for row in rows]


@given(texts, st.integers(0, 20), st.integers(0, 20))
def test_keys_in_a_row_can_be_cut_out(keys: list[str], start: int, stop: int) -> None:
    cut = checked_keys(keys, len(keys)).cut(start, stop)
    assert [key.decode() for key in cut] == keys[start:stop]


def test_keys_are_gathered_from_anywhere_in_a_text() -> None:
    found = gather(b"..abc..de.", np.array([7, 2, 2]), np.array([2, 3, 1], np.uint32))
    assert list(found) == [b"de", b"abc", b"a"]


def test_keys_are_text_of_1_to_256_bytes() -> None:
    assert list(checked_keys(["é", "x" * 256], 2)) == ["é".encode(), b"x" * 256]
    assert list(checked_keys([], 0)) == []
    for bad, why in (("", "0 bytes"), ("é" * 129, "258 bytes"), ("\ud800", "UTF-8"), (1, "UTF-8")):
        with pytest.raises(InvalidError, match=why):
            checked_keys(["fine", bad], 2)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("text", "lengths", "why"),
    [
        (b"abc", [1, 1], "add up to 2 bytes, their text has 3"),
        (b"abc", [3, 0], "key 1 has 0 bytes"),
        (b"a" * 258, [1, 257], "key 1 has 257 bytes"),
        (b"a\xff", [1, 1], "not UTF-8"),
        ("aé".encode(), [2, 1], "key 1 begins in the middle"),
        (b"abc", [3], "1 keys for 2 items"),
    ],
)
def test_packed_keys_that_are_none_are_refused(text: bytes, lengths: list[int], why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        checked_keys(Keys(text, np.array(lengths)), 2)
