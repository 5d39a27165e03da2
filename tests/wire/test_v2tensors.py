"""Tensors as the Open Inference Protocol writes them."""

from __future__ import annotations

import numpy as np

from aiaas_async.wire.v2tensors import classified, read_binary


def test_any_byte_but_zero_is_true() -> None:
    found = read_binary(memoryview(b"\0\1\2\xff"), "x", "BOOL", [4], "m")
    assert found.view(np.uint8).tolist() == [0, 1, 1, 1]


def test_the_highest_classes_come_first_and_of_equals_the_first() -> None:
    found = classified(np.array([[0.25, 0.5, 0.25], [3, 1, 2]], np.float32), 2, "y")
    assert found.tolist() == [["0.500000:1", "0.250000:0"], ["3.000000:0", "2.000000:2"]]
