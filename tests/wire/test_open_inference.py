"""The Open Inference Protocol's bodies: what a request's bytes mean, what a reply's are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import InputError, MalformedError, NotFoundError, RequestError
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.messages import TensorSpec
from aiaas_async.wire.open_inference import (
    MAX_DEPTH,
    Asked,
    InferReply,
    Model,
    check_depth,
    read_request,
    write_reply,
)
from aiaas_async.wire.v2tensors import DATATYPES, Array, classified, pack, read_binary


def model(*inputs: TensorSpec, outputs: tuple[str, ...] = ("y", "z")) -> Model:
    known = inputs or (TensorSpec("x", "float32", (2,)),)
    return Model("m", known, tuple(TensorSpec(name, "float32", (2,)) for name in outputs))


def tensor(**more: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 2], **more}


def binary(size: int = 8, **more: Any) -> dict[str, Any]:
    return tensor(parameters={"binary_data_size": size}, **more)


def sent(head: dict[str, Any], *parts: bytes) -> tuple[bytes, str]:
    raw = json.dumps(head).encode()
    return raw + b"".join(parts), str(len(raw))


TWO = np.array([1, 2], np.float32).tobytes()


def test_binary_tensors_are_views_on_the_body() -> None:
    body, length = sent({"inputs": [binary()]}, TWO)
    found = read_request(body, length, model()).inputs["x"]
    assert found.tolist() == [[1, 2]]
    assert np.shares_memory(found, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize("name", NUMPY)
@given(shape=st.lists(st.integers(0, 4), min_size=1, max_size=4), data=st.data())
def test_bytes_come_back_as_they_went(name: str, shape: list[int], data: st.DataObject) -> None:
    dtype = NUMPY[name]
    size = int(np.zeros(shape, np.bool_).size)
    raw = data.draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
    if name == "bool":
        raw = bytes(byte % 2 for byte in raw)
    found = read_binary(memoryview(raw), "x", DATATYPES[name], shape, "m")
    assert (found.dtype, list(found.shape)) == (dtype, shape)
    assert bytes(pack(found)) == raw


def refused(body: bytes, length: str | None = None, to: Model | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        read_request(body, length, to or model())
    assert isinstance(caught.value, InputError | MalformedError | NotFoundError)
    return caught.value.message


@pytest.mark.parametrize("given", ["-1", "x", "", "99999", "9" * 30, "1e1", "٣"])
def test_a_header_length_beyond_the_body_is_refused(given: str) -> None:
    body, _ = sent({"inputs": [binary()]}, TWO)
    assert refused(body, given).startswith(
        f"inference header size should be in range (0, {len(body)}), got: {given}"
    )


def test_too_few_and_too_many_bytes_are_refused() -> None:
    body, length = sent({"inputs": [binary()]}, TWO)
    assert refused(body[:-1], length) == (
        "unexpected size for input 'x', expecting 1 additional bytes for model 'm'"
    )
    assert refused(body + b"!", length) == "unexpected additional input data for model 'm'"
    body, length = sent({"inputs": [binary(7)]}, TWO[:7])
    assert refused(body, length) == (
        "input byte size mismatch for input 'x' for model 'm'. Expected 8, got 7"
    )


def test_more_than_a_hundred_levels_are_refused_wherever_they_are() -> None:
    for deep in (MAX_DEPTH, 5000, 200_000):
        body = b'{"inputs":[],"z":' + b"[" * deep + b"]" * deep + b"}"
        assert "JSON nesting depth exceeds" in refused(body)
    check_depth(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    check_depth(b'["' + b"[" * 200 + b'"]')
    check_depth(b"[" + b"[]," * 200 + b"0]")


def reply(arrays: dict[str, Array]) -> InferReply:
    return InferReply("m", "1.0", "", arrays, {})


def test_a_reply_whose_tensors_are_all_empty_is_json() -> None:
    body, length = write_reply(reply({"y": np.zeros((1, 0), np.float32)}), [Asked("y", True)])
    assert length is None
    assert json.loads(body)["outputs"][0]["parameters"] == {"binary_data_size": 0}


def test_the_highest_classes_come_first_and_of_equals_the_first() -> None:
    found = classified(np.array([[0.25, 0.5, 0.25], [3, 1, 2]], np.float32), 2, "y")
    assert found.tolist() == [["0.500000:1", "0.250000:0"], ["3.000000:0", "2.000000:2"]]
