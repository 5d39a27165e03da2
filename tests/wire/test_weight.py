"""Which inputs a thread reads: those that are dear to convert, to look at, or to make of texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aiaas_async.messages import TensorSpec
from aiaas_async.wire.tensors import pack_strings, pack_tensor
from aiaas_async.wire.weight import HALVES_BYTES, LARGE, MADE_BYTES, MANY, SEEN_BYTES, takes_long


def zeros(nbytes: int, dtype: str) -> Any:
    return np.zeros(nbytes // np.dtype(dtype).itemsize, dtype)


def theirs(array: Any) -> dict[Any, Any]:
    """As msgpack-numpy packs it."""
    facts = {"nd": True, "type": array.dtype.str, "kind": b"", "shape": array.shape}
    return {key.encode(): value for key, value in facts.items()} | {b"data": array.tobytes()}


CASES: list[tuple[str, Any, bool]] = [
    ("float32", zeros(SEEN_BYTES, "f4"), False),
    ("float32", zeros(SEEN_BYTES + 4, "f4"), True),
    ("float16", zeros(HALVES_BYTES, "f2"), False),
    ("float16", zeros(HALVES_BYTES + 2, "f2"), True),
    ("float16", zeros(HALVES_BYTES // 2 + 1, "u1"), True),
    ("float32", zeros(HALVES_BYTES // 2 + 2, "f2"), True),
    ("float32", pack_tensor(zeros(HALVES_BYTES // 2, "f2")), False),
    ("float32", zeros(MADE_BYTES // 4, "u1"), False),
    ("float32", zeros(MADE_BYTES // 4 + 1, "u1"), True),
    ("uint8", zeros(SEEN_BYTES + 1, "u1"), False),
    ("string", np.full(MANY + 1, "a" * 9), False),
    ("float32", pack_tensor(zeros(SEEN_BYTES, "f4")), False),
    ("float32", pack_tensor(zeros(SEEN_BYTES + 4, "f4")), True),
    ("float64", pack_tensor(zeros(MADE_BYTES // 8 + 1, "u1")), True),
    ("float32", theirs(zeros(HALVES_BYTES // 4, "f4")), False),
    ("float32", theirs(zeros(HALVES_BYTES, "f4")), True),
    ("float32", {"dtype": [], "shape": [1], "data": bytes(HALVES_BYTES)}, True),
    ("float32", {"dtype": "float32", "shape": [1], "data": 7}, False),
    ("float32", {"dtype": "float32", "shape": [1], "data": zeros(SEEN_BYTES, "f4")}, False),
    ("string", pack_strings(["a"] * MANY), True),
    ("string", pack_strings(["a"] * 99), False),
    ("float32", pack_strings(["a"] * MANY), False),
    ("string", ["a"] * MANY, False),
    ("string", ["a"] * (MANY + 1), True),
    ("bool", [[True] * (MANY + 1)], True),
    ("bool", [], False),
    ("float32", 1.5, False),
    ("float32", None, False),
]


@pytest.mark.parametrize(("dtype", "value", "long"), CASES, ids=range(len(CASES)))
def test_what_takes_milliseconds_is_told_by_its_size(dtype: str, value: Any, long: bool) -> None:
    assert takes_long({"x": value}, [TensorSpec("x", dtype, (-1,))]) is long


@pytest.mark.parametrize(
    ("dtype", "most", "more"),
    [
        ("float32", zeros(LARGE * MADE_BYTES // 4, "u1"), zeros(LARGE * MADE_BYTES // 4 + 4, "u1")),
        ("float32", zeros(LARGE * SEEN_BYTES, "f4"), zeros(LARGE * SEEN_BYTES + 16, "f4")),
        ("string", ["a"] * LARGE * MANY, ["a"] * (LARGE * MANY + 1)),
        ("string", pack_strings(["a"] * 3 * MANY), pack_strings(["a"] * LARGE * MANY)),
        (
            "float64",
            pack_tensor(zeros(MADE_BYTES // 2, "u1")),
            pack_tensor(zeros(MADE_BYTES, "u1")),
        ),
    ],
    ids=range(5),
)
def test_what_takes_some_times_as_long_is_large(dtype: str, most: Any, more: Any) -> None:
    specs = [TensorSpec("x", dtype, (-1,))]
    assert not takes_long({"x": most}, specs, LARGE)
    assert takes_long({"x": more}, specs, LARGE)


def test_any_input_may_be_the_long_one() -> None:
    specs = [TensorSpec("a", "float32", ()), TensorSpec("b", "string", ())]
    assert takes_long({"a": [1.0], "b": ["a"] * (MANY + 1)}, specs)
    assert not takes_long({"a": [1.0], "c": ["a"] * (MANY + 1)}, specs)


def test_what_has_no_declared_dtype_keeps_its_own() -> None:
    assert not takes_long({"t": pack_tensor(zeros(SEEN_BYTES + 4, "f4"))}, [TensorSpec("t")])
    assert takes_long({"t": pack_strings(["a"] * MANY)}, [TensorSpec("t")])
