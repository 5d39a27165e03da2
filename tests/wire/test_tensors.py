"""Tensor maps against an oracle that cannot overflow, and against the msgpack-numpy layout."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from aiaas_async.errors import InputError
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.wire.tensors import is_tensor, pack_strings, pack_tensor, unpack_tensor

arrays = st.sampled_from(sorted(NUMPY)).flatmap(
    lambda name: npst.arrays(NUMPY[name], npst.array_shapes(min_dims=0, max_dims=4, min_side=0))
)
wild = st.one_of(
    st.integers(-(2**70), 2**70), st.booleans(), st.none(), st.floats(), st.text(max_size=3)
)


@given(arrays)
def test_a_tensor_survives_the_round_trip(array: np.ndarray[Any, Any]) -> None:
    found = unpack_tensor(pack_tensor(array), "x")
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()


@given(arrays)
def test_base64_data_is_the_same_tensor(array: np.ndarray[Any, Any]) -> None:
    tensor = pack_tensor(array)
    tensor["data"] = base64.b64encode(tensor["data"]).decode()
    assert unpack_tensor(tensor, "x").tobytes() == array.tobytes()


@given(st.lists(wild, max_size=10), st.sampled_from(sorted(NUMPY)), st.integers(0, 64))
def test_a_shape_is_taken_only_if_it_is_sizes_that_fill_the_data(
    shape: list[Any], dtype: str, size: int
) -> None:
    legal = len(shape) <= 8 and all(type(d) is int and 0 <= d < 2**31 for d in shape)
    fits = legal and math.prod(shape) * NUMPY[dtype].itemsize == size
    tensor = {"dtype": dtype, "shape": shape, "data": bytes(size)}
    if fits:
        assert unpack_tensor(tensor, "x").shape == tuple(shape)
    else:
        with pytest.raises(InputError, match="x:"):
            unpack_tensor(tensor, "x")


@pytest.mark.parametrize(
    "dtype", ["f4", "object", "O", "V0", "f4," * 10_000, "float32[2]", "datetime64", 7, None, [1]]
)
def test_other_dtypes_are_refused(dtype: Any) -> None:
    with pytest.raises(InputError, match="not known"):
        unpack_tensor({"dtype": dtype, "shape": [1], "data": b"1234"}, "x")


@pytest.mark.parametrize("data", [None, 7, "not base64!", [1], 1.5])
def test_data_must_be_bytes(data: Any) -> None:
    with pytest.raises(InputError):
        unpack_tensor({"dtype": "uint8", "shape": [1], "data": data}, "x")


def test_maps_of_msgpack_numpy_are_read_and_its_object_kind_is_not() -> None:
    theirs = {"nd": True, "type": "<f4", "kind": b"", "shape": [2], "data": b"\0\0\x80?\0\0\0@"}
    binary: Any = {key.encode(): value for key, value in theirs.items()}
    assert is_tensor(theirs)
    assert unpack_tensor(binary, "x").tolist() == [1.0, 2.0]
    assert unpack_tensor(theirs, "x").tolist() == [1.0, 2.0]
    with pytest.raises(InputError, match="not known"):
        unpack_tensor({**theirs, "type": "|O", "kind": b"O"}, "x")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(90_000.0).reshape(300, 300),
        np.arange(90_000.0).reshape(300, 300).T,
        np.arange(90_000)[::-3],
        np.arange(90_000, dtype=">i4"),
        np.arange(90_000) % 3 == 0,
    ],
    ids=range(5),
)
def test_long_arrays_are_packed_as_they_lie_or_copied(array: np.ndarray[Any, Any]) -> None:
    packed = pack_tensor(array)
    assert np.array_equal(unpack_tensor(packed, "x"), array)
    assert bytes(packed["data"]) == array.astype(array.dtype.newbyteorder("<")).tobytes()
    plain = array.flags.c_contiguous and array.dtype.byteorder != ">"
    assert np.shares_memory(np.frombuffer(packed["data"], np.uint8), array) is plain


@given(st.lists(st.text(max_size=20) | st.sampled_from(["\0", "a\0", "a\0b"])))
def test_packed_strings_are_read_back_or_refused_for_a_nul_at_an_end(texts: list[str]) -> None:
    packed = pack_strings(texts)
    if any(text.endswith("\0") for text in texts):
        with pytest.raises(InputError, match=r"^x: text \d+ ends in a NUL character, which"):
            unpack_tensor(packed, "x")
    else:
        assert unpack_tensor(packed, "x").tolist() == texts


def test_the_first_text_that_ends_in_a_nul_is_named() -> None:
    with pytest.raises(InputError, match=r"^input 'x': text 2 ends in a NUL character"):
        unpack_tensor(pack_strings(["a", "b\0c", "d\0", "\0"]), "input 'x'")


@pytest.mark.parametrize("shape", [(10_000,), (1, 10_000), (2, 5000), (5000, 2), (2500, 2, 2)])
def test_many_texts_are_read_and_packed_as_few_are(shape: tuple[int, ...]) -> None:
    texts = [f"text {number}" for number in range(10_000)]
    found = unpack_tensor(pack_strings(texts) | {"shape": shape}, "x")
    assert (found.shape, found.ravel().tolist()) == (shape, texts)
    assert pack_tensor(found) == found.tolist()


def test_many_empty_texts_are_texts() -> None:
    found = unpack_tensor(pack_strings([""] * 10_000), "x")
    assert found.tolist() == [""] * 10_000


@pytest.mark.parametrize(
    "data", [b"\x05\0\0\0ab", b"\x01\0\0\0ab", b"\xff\xff\xff\xff", b"", b"\x01\0\0\0\xff"]
)
def test_strings_that_do_not_fill_the_data_are_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        unpack_tensor({"dtype": "string", "shape": [1], "data": data}, "x")
