"""Replies of the Open Inference Protocol: tensors in JSON or as bytes behind it."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from aiaas_async.errors import InputError
from aiaas_async.wire.v2reply import Asked, InferReply, long_lists, write_reply


def test_a_reply_whose_tensors_are_all_empty_is_json() -> None:
    empty = InferReply("m", "1.0", "", {"y": np.zeros((1, 0), np.float32)}, {})
    body, length = write_reply(empty, [Asked("y", True)])
    assert length is None
    assert json.loads(body)["outputs"][0]["parameters"] == {"binary_data_size": 0}


def test_outputs_in_json_are_long_together_and_bytes_are_not_counted() -> None:
    half = np.zeros((2, 1 << 12), np.float32)
    arrays = {"a": half, "b": half, "c": half[:1, :1]}
    assert not long_lists(arrays, [Asked("a"), Asked("b")])
    assert not long_lists(arrays, [Asked("a"), Asked("b", classes=3), Asked("b", binary=True)])
    found = long_lists(arrays, [Asked("a"), Asked("b"), Asked("c")])
    assert {name: array.shape for name, array in found.items()} == {
        "a": (1 << 13,),
        "b": (1 << 13,),
        "c": (1,),
    }


def test_a_list_that_is_written_already_goes_into_its_place() -> None:
    reply = InferReply("m", "1.0", "", {"y": np.ones((1, 2)), "z": np.ones((1, 1))}, {})
    lists = {"y": msgspec.Raw(b"[1.0,1.0]")}
    body, _ = write_reply(reply, [Asked("y"), Asked("z")], lists)
    assert [output["data"] for output in json.loads(body)["outputs"]] == [[1.0, 1.0], [1.0]]


def test_halves_have_no_json_however_many_there_are() -> None:
    arrays = {"y": np.zeros((1, 1 << 15), np.float16)}
    assert not long_lists(arrays, [Asked("y")])
    with pytest.raises(InputError, match="FP16"):
        write_reply(InferReply("m", "1.0", "", arrays, {}), [Asked("y")])
