"""What the skim lets through, a decoder can build cheaply; what it refuses, it names."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import AiaasError, MalformedError, TooLargeError
from aiaas_async.wire.codecs import decode_msgpack
from aiaas_async.wire.longbinary import LongBinary
from aiaas_async.wire.skim import (
    MAX_ARRAY,
    MAX_DEPTH,
    MAX_MAP,
    MAX_STRUCTURE,
    Measure,
    check_structure,
    measure,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=70_000)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@given(values)
def test_whatever_msgpack_packs_within_the_bounds_passes(value: Any) -> None:
    check_structure(msgpack.packb(value))


@given(values, st.integers(1, 50))
def test_a_body_cut_short_is_malformed(value: Any, cut: int) -> None:
    body = msgpack.packb(value)
    with pytest.raises(MalformedError):
        check_structure(body[: max(0, len(body) - cut)])


@given(values)
def test_trailing_bytes_are_malformed(value: Any) -> None:
    with pytest.raises(MalformedError, match="trailing"):
        check_structure(msgpack.packb(value) + b"\xc0")


@given(values, st.lists(st.integers(0, 1000), max_size=30))
def test_a_look_that_goes_on_finds_what_one_from_the_start_does(
    value: Any, steps: list[int]
) -> None:
    body, look, end = msgpack.packb(value), Measure(), 0
    met: list[LongBinary] = []
    for step in [*steps, 70_000 * 20]:
        end += step
        known: list[LongBinary] = []
        assert look.of(body[:end], met) == measure(body[:end], known)
        assert met == known


@given(st.binary(max_size=400))
def test_any_bytes_decode_or_are_refused_by_an_error_of_ours(body: bytes) -> None:
    try:
        decode_msgpack(body)
    except AiaasError as error:
        assert isinstance(error, MalformedError | TooLargeError)  # noqa: PT017


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\x80" * 3, "trailing"),
        (b"\xdd\xff\xff\xff\xff", "array of 4294967295"),
        (b"\xdf\x00\x00\x10\x00", "map of 4096"),
        (b"\xdc" + (MAX_ARRAY + 1).to_bytes(2, "big"), "array of 4097"),
        (b"\xde" + (MAX_MAP + 1).to_bytes(2, "big"), "map of 257"),
        (b"\x91" * (MAX_DEPTH + 1) + b"\xc0", "deeper than 16"),
        (b"\xd9\xff" + b"a" * 255, None),
        (b"\xdb" + (MAX_STRUCTURE + 1).to_bytes(4, "big") + b"a" * (MAX_STRUCTURE + 1), "65536"),
        (b"\xd4\x01\x00", "extension"),
        (b"\xc7\x01\x05\x00", "extension"),
        (b"\xc1", "extension"),
        (b"", "cut short"),
        (b"\xc6\xff\xff\xff\xff", "cut short"),
    ],
)
def test_each_bound_is_named_when_it_is_broken(body: bytes, said: str | None) -> None:
    if said is None:
        check_structure(body)
    else:
        with pytest.raises((MalformedError, TooLargeError), match=said):
            check_structure(body)


def test_a_hostile_body_of_16_mib_is_refused_after_its_first_kibibytes() -> None:
    # 4,096 arrays of 4,096 empty maps passed a limit per array and took 4 s to build.
    inner = b"\xdc\x10\x00" + b"\x80" * 4096
    with pytest.raises(TooLargeError, match="outside binary"):
        check_structure(b"\xdc\x10\x00" + inner * 4096)


def test_binary_payloads_do_not_count_as_structure() -> None:
    check_structure(msgpack.packb({"image": {"data": bytes(1 << 20)}}))


def test_a_repeated_key_is_refused() -> None:
    with pytest.raises(MalformedError, match="repeats a key"):
        decode_msgpack(b"\x82\xa1a\x01\xa1a\x02")


def test_keys_must_be_text() -> None:
    with pytest.raises(MalformedError):
        decode_msgpack(b"\x81\x01\x02")
