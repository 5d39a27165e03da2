"""Checksums and keys depend on an item's values, not on how columns were handed over."""

import zlib
from hashlib import blake2b

import numpy as np

from aiaas_async.data.items import checksums, default_keys, last_of_each

ARRAYS = {"b": np.arange(6, dtype="<i2").reshape(3, 2), "a": np.arange(3, dtype="<f4")}


def rows() -> list[bytes]:
    return [ARRAYS["a"][i].tobytes() + ARRAYS["b"][i].tobytes() for i in range(3)]


def test_a_checksum_is_the_crc32_of_the_values_by_column_name() -> None:
    assert checksums(ARRAYS).tolist() == [zlib.crc32(row) for row in rows()]


def test_a_default_key_is_the_blake2b_of_the_values_by_column_name() -> None:
    expected = [blake2b(row, digest_size=16).hexdigest().encode() for row in rows()]
    assert default_keys(ARRAYS) == expected


def test_of_repeated_keys_the_last_is_kept_in_order() -> None:
    assert last_of_each([b"a", b"b"]) is None
    last = last_of_each([b"a", b"b", b"a", b"c", b"b"])
    assert last is not None
    assert last.tolist() == [2, 3, 4]


def test_no_items_have_no_checksums() -> None:
    assert checksums({"a": np.empty((0, 3))}).tolist() == []
