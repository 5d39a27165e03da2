"""What is cut out of a body comes back as it was, without having been copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import InputError, MalformedError
from aiaas_async.names import clip
from aiaas_async.wire.arrays import read_array
from aiaas_async.wire.codecs import decode_msgpack
from aiaas_async.wire.longbinary import LEAST
from aiaas_async.wire.skim import check_structure, first_binary
from aiaas_async.wire.tensors import unpack_tensor

binaries = st.integers(0, 3).map(lambda n: bytes([n]) * (LEAST - 1 + n))
values = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8) | binaries,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def plain(value: Any) -> Any:
    """`value` with bytes in place of views."""
    if isinstance(value, dict):
        return {key: plain(held) for key, held in value.items()}
    if isinstance(value, list):
        return [plain(held) for held in value]
    return bytes(value) if isinstance(value, memoryview) else value


@given(values)
def test_any_value_is_decoded_as_if_nothing_had_been_cut_out(value: Any) -> None:
    body = msgpack.packb(value)
    assert plain(decode_msgpack(body)) == value
    assert plain(decode_msgpack(bytearray(body))) == value


def test_a_long_binary_is_a_view_of_the_body() -> None:
    body = bytearray(msgpack.packb({"a": bytes(LEAST), "b": b"short"}))
    found = decode_msgpack(body)
    assert type(found["b"]) is bytes
    body[-LEAST // 2] = 7
    assert 7 in found["a"]


@pytest.mark.parametrize("code", [0, 1, -1])
def test_a_stand_in_cannot_be_forged(code: int) -> None:
    forged = msgpack.packb([bytes(LEAST), msgpack.ExtType(code & 127, bytes(4))])
    with pytest.raises(MalformedError, match="extension type"):
        decode_msgpack(forged)


def test_a_tensor_of_a_long_binary_shares_its_memory() -> None:
    data = np.arange(LEAST, dtype=np.float32)
    tensor = {"dtype": "float32", "shape": [LEAST], "data": data.tobytes()}
    found = unpack_tensor(decode_msgpack(msgpack.packb({"x": tensor}))["x"], "input 'x'")
    assert np.array_equal(found, data)
    assert not found.flags.owndata


@given(st.binary(max_size=300), st.integers(0, 2 * LEAST))
def test_the_first_binary_is_found_in_the_beginning_of_a_body(text: bytes, more: int) -> None:
    body = msgpack.packb([text, bytes(LEAST), bytes(LEAST)])
    start = check_structure(body)[0].start
    begin = body[: len(text) + 16 + more]
    assert first_binary(begin) == start
    assert first_binary(body[: max(0, start - 5)]) == 0


@pytest.mark.parametrize("dtype", [None, "float32", "uint8", "string"])
@pytest.mark.parametrize("nest", [lambda b: b, lambda b: [b, b], lambda b: [[1, b]]])
def test_a_long_binary_is_no_array_of_numbers(nest: Callable[[bytes], Any], dtype: str) -> None:
    for size in (5, LEAST):
        raw = decode_msgpack(msgpack.packb(nest(bytes(size))))
        with pytest.raises(InputError, match="binary data"):
            read_array(raw, "input 'x'", dtype)


def test_an_error_shows_the_bytes_of_a_view_and_not_its_address() -> None:
    said = clip({"x": memoryview(b"abc" * LEAST)})
    assert "abcabc" in said
    assert "0x" not in said
