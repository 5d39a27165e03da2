"""Long lists of numbers leave a JSON text, which otherwise stays what it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.wire.longlists import LEAST, MAX_LISTS, cut_out, find_lists, stand_in, stood_in

# Each may follow or hold the other: quotes, brackets and braces in texts, escapes before quotes.
TEXTS = st.text(st.sampled_from('":[]{},\\ é1'), max_size=8)
LONG = st.one_of(
    st.lists(st.floats(-1, 1), min_size=120, max_size=130),
    st.lists(st.lists(st.integers(1000, 9999), min_size=2, max_size=2), min_size=60, max_size=70),
    st.just(["x" * LEAST]),
    st.just(["[" * LEAST]),
    st.just([[1000] * 60, {}, [None] * 60, [True] * 60]),
)
VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | TEXTS | LONG,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def restored(value: Any, lists: list[Any]) -> Any:
    """`value` with each list in place of its stand-in."""
    number = stood_in(value)
    if number is not None:
        return lists[number]
    if isinstance(value, dict):
        return {key: restored(held, lists) for key, held in value.items()}
    return [restored(held, lists) for held in value] if isinstance(value, list) else value


@given(VALUES, st.sampled_from([None, 1]), st.booleans())
def test_a_text_is_the_same_with_its_lists_put_back(
    value: Any, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    lists = find_lists(text)
    left = json.loads(cut_out(text, lists))
    assert restored(left, [each.array.tolist() for each in lists]) == value
    assert restored(left, [json.loads(bytes(each.text)) for each in lists]) == value


@given(st.dictionaries(TEXTS, LONG, min_size=1, max_size=5))
def test_every_long_list_of_numbers_under_a_key_is_found(value: dict[str, Any]) -> None:
    wanted = [held for held in value.values() if {str, dict}.isdisjoint(map(type, held))]
    found = find_lists(json.dumps(value).encode())
    assert [each.array.tolist() for each in found] == wanted


NUMBERS = "[" + "0.25, " * 100 + "1]"
NOT_CUT = {
    "no value of a key": f"[{NUMBERS}]",
    "after a text in a list": f'["a", {NUMBERS}]',
    "in a text": json.dumps(f'"a": {NUMBERS}'),
    "in a text that ends in a backslash": json.dumps(f'\\": {NUMBERS}\\'),
    "short": '{"a": [1, 2, 3]}',
    "with a text at its end": f'{{"a": {NUMBERS[:-1]}, "b"]}}',
    "with an object at its end": f'{{"a": {NUMBERS[:-1]}, {{}}]}}',
    "with null": f'{{"a": {NUMBERS[:-1]}, null]}}',
    "two in one place": f'{{"a": {NUMBERS}, {NUMBERS}}}',
    "without an end": f'{{"a": {NUMBERS[:-1]}',
    "uneven": f'{{"a": [{NUMBERS}, [1]]}}',
    "no JSON": f'{{"a": {NUMBERS[:-1]}, 01]}}',
}


@pytest.mark.parametrize("what", NOT_CUT)
def test_what_is_no_long_list_of_numbers_stays(what: str) -> None:
    assert find_lists(NOT_CUT[what].encode()) == []


def test_only_the_lists_of_a_key_are_found_if_it_is_given() -> None:
    text = f'{{"a": {NUMBERS}, "data" : {NUMBERS}, "xdata": {NUMBERS}}}'.encode()
    (found,) = find_lists(text, b"data")
    assert text[: found.start].endswith(b'"data" : ')
    assert len(find_lists(text)) == 3


def test_a_text_that_has_a_stand_in_keeps_its_lists() -> None:
    text = b'{"a": %s, "b": %s}' % (NUMBERS.encode(), stand_in(0))
    assert find_lists(text) == []


def test_no_more_lists_are_cut_out_than_a_body_has_fields() -> None:
    text = json.dumps({f"x{n}": [n + 1000] * 100 for n in range(MAX_LISTS + 50)}).encode()
    assert len(find_lists(text)) == MAX_LISTS


@pytest.mark.parametrize("value", [[1], [True, 0], [float(stand_in(0)[1:-3]), 0], "x", None, {}])
def test_other_values_stand_for_nothing(value: Any) -> None:
    assert stood_in(value) is None
