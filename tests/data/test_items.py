"""Checksums and keys depend on an item's values, not on how columns were handed over."""

import zlib
from hashlib import blake2b

import numpy as np
import pytest

from aiaas_async.data.items import checksums, default_keys, last_of_each
from aiaas_async.data.keys import Keys

ARRAYS = {"b": np.arange(6, dtype="<i2").reshape(3, 2), "a": np.arange(3, dtype="<f4")}


def rows() -> list[bytes]:
    return [ARRAYS["a"][i].tobytes() + ARRAYS["b"][i].tobytes() for i in range(3)]


def test_a_checksum_is_the_crc32_of_the_values_by_column_name() -> None:
    assert checksums(ARRAYS).tolist() == [zlib.crc32(row) for row in rows()]


@pytest.mark.parametrize("width", [1, 3, 95, 96, 97])
@pytest.mark.parametrize("count", [1, 5000])
def test_rows_of_any_length_and_number_have_the_checksums_that_zlib_gives(
    width: int, count: int
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (count, width), np.uint8)
    assert checksums({"a": values}).tolist() == [zlib.crc32(row) for row in values]


def test_a_default_key_is_the_blake2b_of_the_values_by_column_name() -> None:
    expected = [blake2b(row, digest_size=16).hexdigest().encode() for row in rows()]
    assert list(default_keys(ARRAYS)) == expected


def test_of_repeated_keys_the_last_is_kept_in_order() -> None:
    assert last_of_each(Keys.of([b"a", b"b"]), np.array([1, 2], np.uint64)) is None
    keys = Keys.of([b"a", b"b", b"a", b"c", b"b"])
    last = last_of_each(keys, np.array([1, 2, 1, 3, 2], np.uint64))
    assert last is not None
    assert last.tolist() == [2, 3, 4]


def test_two_keys_that_share_a_hash_are_two_keys() -> None:
    assert last_of_each(Keys.of([b"a", b"b"]), np.array([1, 1], np.uint64)) is None


def test_no_items_have_no_checksums() -> None:
    assert checksums({"a": np.empty((0, 3))}).tolist() == []
