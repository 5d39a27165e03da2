"""A data set is declared with numeric columns of fixed shape; anything else is told apart."""

from typing import Any

import numpy as np
import pytest

from aiaas_async.data.schema import Column, checked_columns, parse_spec
from aiaas_async.errors import InputError, InvalidError, InvalidNameError, TooLargeError
from aiaas_async.messages import DTYPES
from tests.data.build import BODY, columns, spec_of


def test_every_numeric_dtype_of_the_vocabulary_can_be_stored() -> None:
    numeric = [dtype for dtype in DTYPES if dtype != "string"]
    assert [Column(dtype).numpy.name for dtype in numeric] == numeric


def test_columns_are_kept_in_the_order_of_their_names() -> None:
    body = {"columns": {"b": {"dtype": "int8"}, "a": {"dtype": "float64", "shape": [3]}}}
    spec = parse_spec("d", "0", body, 5.0)
    assert list(spec.columns) == ["a", "b"]
    assert (spec.item_bytes, spec.replication, spec.created_at) == (25, 1, 5.0)


@pytest.mark.parametrize(
    ("columns_", "why"),
    [
        ({}, "1 to 64 columns"),
        ({f"c{i}": {"dtype": "int8"} for i in range(65)}, "1 to 64 columns"),
        ({"a": {"dtype": "string"}}, "token ids"),
        ({"a": {"dtype": "f4," * 1000}}, "known: bool"),
        ({"a": {"dtype": "int8", "shape": [-1]}}, "fixed size"),
        ({"a": {"dtype": "int8", "shape": [0]}}, "fixed size"),
        ({"a": {"dtype": "int8", "shape": [1] * 9}}, "at most 8 dimensions"),
        ({"a": {"dtype": "int8", "shape": [1.5]}}, "int"),
        ({"a": {"dtype": "int8", "size": 1}}, "size"),
        ({"\n": {"dtype": "int8"}}, "column name"),
        ([], "object"),
    ],
)
def test_a_declaration_that_cannot_be_stored_is_refused(columns_: Any, why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        parse_spec("d", "0", {"columns": columns_}, 0.0)


def test_sizes_names_and_copies_are_bounded() -> None:
    with pytest.raises(TooLargeError, match="16777216"):
        parse_spec("d", "0", {"columns": {"a": {"dtype": "int8", "shape": [2**30] * 8}}}, 0.0)
    with pytest.raises(InvalidNameError):
        parse_spec("../d", "0", BODY, 0.0)
    with pytest.raises(InvalidError, match="replication"):
        parse_spec("d", "0", {**BODY, "replication": 9}, 0.0)


def test_arrays_are_checked_against_the_columns() -> None:
    good = columns([1, 2])
    assert list(checked_columns(spec_of(), good)) == ["image", "label"]
    big_endian = checked_columns(spec_of(), {**good, "label": good["label"].astype(">i8")})
    assert big_endian["label"].tolist() == [1, 2]
    assert big_endian["label"].dtype.str == "<i8"
    for bad, why in (
        ({**good, "more": good["label"]}, "unknown"),
        ({**good, "label": good["label"].astype(np.int32)}, "convert first"),
        ({**good, "label": good["label"][:1]}, "differ in length"),
        ({**good, "label": np.int64(1)}, r"\[n\] expected"),
        ({**good, "image": good["image"][:, :1]}, r"\[n, 2, 3\] expected"),
    ):
        with pytest.raises(InputError, match=why):
            checked_columns(spec_of(), bad)  # type: ignore[arg-type]
