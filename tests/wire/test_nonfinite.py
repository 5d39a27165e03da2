"""Answers that JSON has no form of: each is refused by its name, place and value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from aiaas_async.errors import InputError
from aiaas_async.wire.longjson import MANY, long_arrays, numbers_in, write_arrays
from aiaas_async.wire.nonfinite import VALUE, check_finite

ALL = "; ask for binary tensors or MessagePack"


@pytest.mark.parametrize("size", [1, 32, 33, 1000])
@pytest.mark.parametrize(("value", "said"), [(np.inf, "inf"), (-np.inf, "-inf"), (np.nan, "nan")])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_json_has_no_form_of_is_refused_by_its_place(
    size: int, value: float, said: str, dtype: type
) -> None:
    array: np.ndarray[Any, Any] = np.zeros((2, size), dtype)
    check_finite(array, "y")
    array[1, size - 1] = value
    with pytest.raises(InputError) as caught:
        check_finite(array, "y")
    expected = f"output 'y' holds {said} at [1, {size - 1}], and JSON has no such number{ALL}"
    assert caught.value.message == expected


@given(npst.arrays(np.float64, st.integers(0, 40), elements=st.floats()))
def test_only_finite_numbers_pass(array: np.ndarray[Any, Any]) -> None:
    try:
        check_finite(array, "y")
    except InputError:
        assert not np.isfinite(array).all()
    else:
        assert np.isfinite(array).all()


@pytest.mark.parametrize("array", [np.array([7]), np.array(["nan"]), np.array([True]), np.zeros(0)])
def test_what_is_no_fraction_passes(array: np.ndarray[Any, Any]) -> None:
    check_finite(array, "y")


def test_numbers_that_overflow_only_together_pass() -> None:
    check_finite(np.full(9, np.finfo(np.float64).max), "y")


def test_single_numbers_are_looked_at_too() -> None:
    value = {"outputs": {"y": np.float32("inf")}, "loss": float("nan"), "n": 7, "z": {"a": 1.5}}
    numbers = dict(numbers_in(value))
    assert list(numbers) == ["outputs/y", "loss", "z/a"]
    with pytest.raises(InputError, match=r"^output 'outputs/y' holds inf, and JSON"):
        long_arrays(numbers)
    with pytest.raises(InputError, match=r"^output 'loss' holds nan, and JSON"):
        long_arrays({"loss": numbers["loss"], "long": np.zeros(MANY)})


def test_long_arrays_are_looked_at_when_they_are_written() -> None:
    array = np.zeros(MANY + 1, np.float32)
    array[-1] = np.nan
    assert long_arrays({"y": array}).keys() == {"y"}
    with pytest.raises(InputError, match=rf"^output 'y' holds nan at \[{MANY}\], and JSON"):
        write_arrays({"y": array})


def test_what_is_no_output_is_not_called_one() -> None:
    said = r"^value 'y' holds inf(| at \[0\]), and JSON has no such number; ask for MessagePack$"
    with pytest.raises(InputError, match=said):
        long_arrays({"y": np.float64("inf")}, VALUE)
    with pytest.raises(InputError, match=said):
        write_arrays({"y": np.array([np.inf])}, VALUE)
