"""Items as pieces are the value that a decoder reads, and a stream of values comes apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aiaas_async.errors import MalformedError
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.wire.codecs import decode_msgpack, encode_msgpack
from aiaas_async.wire.items import pack_items
from aiaas_async.wire.skim import check_structure, measure
from aiaas_async.wire.tensors import unpack_tensor

arrays = hnp.arrays(
    st.sampled_from(sorted(NUMPY)).map(lambda name: NUMPY[name]),
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=4),
)


@given(st.dictionaries(st.text(min_size=1, max_size=40), arrays, min_size=1, max_size=5))
def test_columns_come_back_as_they_were(columns: dict[str, Any]) -> None:
    value = decode_msgpack(b"".join(pack_items(columns, None)))
    assert value.keys() == {"columns"}
    for name, array in columns.items():
        np.testing.assert_array_equal(unpack_tensor(value["columns"][name], name), array)


@given(st.lists(st.text(max_size=9), max_size=9))
def test_keys_come_back_end_to_end_with_their_lengths(keys: list[str]) -> None:
    columns = {"x": np.zeros(len(keys))}
    value = decode_msgpack(b"".join(pack_items(columns, keys)))
    lengths = unpack_tensor(value["keys"]["lengths"], "lengths")
    assert value["keys"]["text"] == "".join(keys).encode()
    assert lengths.tolist() == [len(key.encode()) for key in keys]


def test_an_array_is_handed_on_without_a_copy() -> None:
    x = np.arange(1000, dtype=np.float32)
    pieces = list(pack_items({"x": x}, None))
    assert any(isinstance(p, memoryview) and np.shares_memory(np.frombuffer(p), x) for p in pieces)


values = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=40) | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@given(values, st.binary(max_size=20), st.data())
def test_the_end_of_a_value_is_known_whatever_follows_and_asked_for_until_then(
    value: Any, rest: bytes, data: st.DataObject
) -> None:
    body = encode_msgpack(value)
    assert measure(body + rest, []) == len(body)
    cut = data.draw(st.integers(0, len(body) - 1))
    assert cut < measure(body[:cut], []) <= len(body)
    with pytest.raises(MalformedError, match="cut short"):
        check_structure(body[:cut])
