"""A key that is given twice is refused; everything else is read as before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import MalformedError
from aiaas_async.wire.codecs import decode_json

TEXTS = st.text(st.sampled_from('a:"\\{}[],é'), max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ('{"a": 1, "a": 2}', "a"),
        ('{"a": 1, "\\u0061": 2}', "a"),
        ('{"a:": 1, "a\\u003a": 2, "b": ":"}', "a:"),
        ('{"a": "\\u003a", "a": ""}', "a"),
        ('{"inputs": {"x": [1, 2], "x": [3, 4]}}', "x"),
        ('{"inputs": [{"name": "x", "name": "y"}]}', "name"),
        ('{"a": {"b": {}}, "a": {}}', "a"),
        ('{"": 1, "": 2}', ""),
    ],
)
def test_a_repeated_key_is_refused_by_its_name(body: str, key: str) -> None:
    with pytest.raises(MalformedError, match=f"repeats the key {key!r}"):
        decode_json(body.encode())


@given(VALUES, st.booleans())
def test_what_repeats_no_key_is_read(value: Any, ascii_only: bool) -> None:
    assert decode_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.lists(st.tuples(TEXTS, VALUES), max_size=6), st.booleans())
def test_an_object_is_refused_exactly_when_it_repeats_a_key(
    pairs: list[tuple[str, Any]], escaped: bool
) -> None:
    fields = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in pairs]
    body = "[0, {" + ", ".join(fields) + "}]"
    if escaped:
        body = body.replace("a", "\\u0061").replace("f\\u0061lse", "false")
    if len({key for key, _ in pairs}) == len(pairs):
        assert decode_json(body.encode()) == [0, dict(pairs)]
    else:
        with pytest.raises(MalformedError, match="repeats the key"):
            decode_json(body.encode())


def test_in_a_long_body_the_key_is_not_named() -> None:
    body = b'{"a": 1, "pad": "' + bytes(8192).replace(b"\0", b"x") + b'", "a": 2}'
    with pytest.raises(MalformedError, match="repeats a key"):
        decode_json(body)


@pytest.mark.parametrize(
    "text", ["http://a:1/", "\\u003a", "\\u003A", "\\\\u003a", "\\\\\\u003a", "1:2:3"]
)
def test_colons_in_texts_are_no_keys(text: str) -> None:
    assert decode_json(f'{{"a": ["{text}"], "b:c": "{text}"}}'.encode())["a"]
