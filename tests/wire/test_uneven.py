"""Lists that make no array are refused in words a caller knows, with the place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.wire.uneven import fault_in


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (None, "x is null"),
        ({"a": 1}, "x is an object"),
        ([[1, 2], [3, None]], "x holds null at [1, 1]"),
        ([b"abc", 1], "x holds binary data at [0]"),
        ([1.5, {"a": 1}], "x holds an object at [1]"),
        ([None, "a", 1], "x holds null at [0]"),
        ([[1, 2], [3]], "x: the list at [0] has 2 values, the one at [1] has 1"),
        ([[[1], [2]], [[3], []]], "x: the list at [0, 0] has 1 value, the one at [1, 1] has 0"),
        ([[1, 2], 3], "x has a list at [0] and a number at [1]"),
        ([1, [2]], "x has a number at [0] and a list at [1]"),
        ([["a", "b"], ["c", 1.5]], "x has a text at [0, 0] and a number at [1, 1]"),
        ([True, 1, 0.5, "a"], "x has a number at [0] and a text at [3]"),
        ((1, (2,)), "x has a number at [0] and a list at [1]"),
        ([[[[[[[[[[1]]]]]]]]]], "x has lists within lists more than 9 deep"),
        ([2**70, 1], "x holds what is neither a number of 64 bits nor a text"),
        (np.zeros(3, object), "x holds what is neither a number of 64 bits nor a text"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(raw: Any, said: str) -> None:
    assert fault_in(raw, "x") == said


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    )
)
def test_something_is_said_of_any_value_and_never_at_length(value: Any) -> None:
    said = fault_in(value, "x")
    assert said.startswith("x")
    assert len(said) < 120
