"""Numbers that are slow to read cost a body little more than others."""

from __future__ import annotations

import time
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.wire import numerals
from aiaas_async.wire.numerals import decode

numbers = st.floats(allow_nan=False, allow_infinity=False)
SLOW = ["1e308", "-7E290", "5e-324", "9e+307", "1.7e0308"]


@given(st.lists(numbers, max_size=20), st.sampled_from([1, 4000]))
def test_numbers_are_the_same_however_they_are_read(values: list[float], bearable: int) -> None:
    value = {"x": [1e300], "texts": ["1e300"], "whole": [1, -2], "y": values}
    with mock.patch.object(numerals, "_BEARABLE", bearable):
        assert decode(msgspec.json.encode(value)) == value


@pytest.mark.parametrize("number", SLOW)
def test_slow_numbers_do_not_add_up(number: str) -> None:
    body = f'{{"x": [{",".join([number] * 10_000)}]}}'
    for form in (body, body.encode()):
        started = time.thread_time()
        found: Any = decode(form)
        assert time.thread_time() - started < 0.03
        assert found == {"x": [float(number)] * 10_000}


@pytest.mark.parametrize("few", [1, 5000])
def test_a_number_beyond_the_range_is_refused(few: int) -> None:
    with pytest.raises(msgspec.DecodeError, match="out of range"):
        decode(b"[" + b"1e300," * few + b"1e999]")
