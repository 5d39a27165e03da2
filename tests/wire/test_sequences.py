"""Which inputs tell of sequences, how they are filled, and what is read from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import InputError
from aiaas_async.messages import TensorSpec
from aiaas_async.wire.sequences import (
    END,
    ID,
    MAX_ID_LENGTH,
    START,
    Mark,
    control_arrays,
    is_stateful,
    mark_of,
    split_controls,
)

X = TensorSpec("x", "float32", (1,))


def controls(id_dtype: str, flag_dtype: str = "bool") -> tuple[TensorSpec, ...]:
    return (
        TensorSpec(ID, id_dtype, ()),
        TensorSpec(START, flag_dtype, (1,)),
        TensorSpec(END, flag_dtype, ()),
    )


@given(
    mark=st.builds(Mark, st.integers(1, 2**64 - 1), st.booleans(), st.booleans()),
    rows=st.integers(1, 4),
    dtype=st.sampled_from(["bool", "int32", "float32"]),
)
def test_what_is_filled_in_is_what_is_read_out(mark: Mark, rows: int, dtype: str) -> None:
    arrays = control_arrays(controls("uint64", dtype), mark, rows, "m")
    assert {len(array) for array in arrays.values()} == {rows}
    assert mark_of(arrays) == mark
    texts = mark_of(control_arrays(controls("string", dtype), mark, rows, "m"))
    assert texts == Mark(str(mark.id), mark.start, mark.end)


def test_only_an_id_of_one_value_a_row_makes_a_version_stateful() -> None:
    assert is_stateful((X, TensorSpec(ID, "string", ())))
    assert split_controls((X, *controls("int64"))) == ((X,), controls("int64"))
    for other in (TensorSpec(ID, "float32", ()), TensorSpec(ID, "string", (2,)), TensorSpec(ID)):
        assert not is_stateful((X, other))
        assert split_controls((X, other)) == ((X, other), ())
    assert split_controls((X, TensorSpec(START, "bool", ()))) == (
        (X, TensorSpec(START, "bool", ())),
        (),
    )


@pytest.mark.parametrize(
    ("mark", "dtype", "said"),
    [
        (Mark(0), "string", "non-zero or non-empty correlation ID"),
        (Mark(""), "string", "non-zero or non-empty correlation ID"),
        (Mark("a"), "uint64", "takes uint64 sequence ids, got 'a'"),
        (Mark("-1"), "uint64", "takes uint64 sequence ids"),
        (Mark(2**64 - 1), "int64", "takes int64 sequence ids"),
        (Mark("9" * 5000), "uint64", "takes uint64 sequence ids"),
        (Mark("a" * 129), "string", "over 128 letters"),
        (Mark("a\0"), "string", "text 0 ends in a NUL character"),
    ],
)
def test_ids_that_do_not_fit_are_refused(mark: Mark, dtype: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        control_arrays(controls(dtype), mark, 1, "m")


def test_the_rows_of_a_call_belong_to_one_sequence() -> None:
    with pytest.raises(InputError, match=r"must have one sequence_id; got \[1, 2\]"):
        mark_of({ID: np.array([1, 2])})


def test_a_sequence_is_not_remembered_under_a_text_of_any_length() -> None:
    assert mark_of({ID: np.array(["s" * MAX_ID_LENGTH])}).id == "s" * MAX_ID_LENGTH
    with pytest.raises(InputError, match="128 letters at most"):
        mark_of({ID: np.array(["s" * (MAX_ID_LENGTH + 1)])})
