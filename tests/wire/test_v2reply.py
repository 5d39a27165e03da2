"""Replies of the Open Inference Protocol: tensors in JSON or as bytes behind it."""

from __future__ import annotations

import json

import numpy as np

from aiaas_async.wire.v2reply import Asked, InferReply, write_reply


def test_a_reply_whose_tensors_are_all_empty_is_json() -> None:
    empty = InferReply("m", "1.0", "", {"y": np.zeros((1, 0), np.float32)}, {})
    body, length = write_reply(empty, [Asked("y", True)])
    assert length is None
    assert json.loads(body)["outputs"][0]["parameters"] == {"binary_data_size": 0}
