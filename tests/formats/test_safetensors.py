"""A file is read if and only if its header describes it byte for byte; nothing is copied."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.errors import ArtifactError, StorageError
from aiaas_async.formats.safetensors import map_tensors, read_header, write_tensors
from tests.formats.tensors import TENSORS

SIZES = {"BOOL": 1, "U8": 1, "F16": 2, "BF16": 2, "F32": 4, "I64": 8}


def file_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: list[Any], begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@given(TENSORS)
@settings(deadline=None)
def test_what_is_written_is_read_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("t") / "a.safetensors"
    write_tensors(path, tensors, {"key": "ü"})
    mapped = map_tensors(path)
    assert dict(mapped.header.metadata) == {"key": "ü"}
    assert set(mapped.tensors) == set(tensors)
    for name, array in tensors.items():
        assert mapped.tensors[name].dtype == array.dtype
        assert mapped.tensors[name].shape == array.shape
        assert mapped.tensors[name].tobytes() == array.tobytes()


def test_views_are_read_only_aligned_and_not_copies(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"flag": np.ones(3, bool), "w": np.ones((5, 7), np.float32)})
    mapped = map_tensors(path)
    header = mapped.header
    assert header.start % 64 == 0
    assert header.tensors["w"].begin == 0
    assert mapped.tensors["w"].flags.aligned
    assert not mapped.tensors["w"].flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        mapped.tensors["w"][0, 0] = 2
    with path.open("r+b") as file:  # what another process writes shows: nothing was copied
        file.seek(header.start)
        file.write(np.float32(9).tobytes())
    assert mapped.tensors["w"][0, 0] == 9


def test_equal_tensors_make_equal_files_whatever_their_order(tmp_path: Path) -> None:
    a, b = np.arange(3.0), np.arange(4, dtype=np.int8)
    write_tensors(tmp_path / "1", {"a": a, "b": b}, {"x": "1", "y": "2"})
    write_tensors(tmp_path / "2", {"b": b, "a": a}, {"y": "2", "x": "1"})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert not list(tmp_path.glob("*.new"))


def test_bfloat16_is_widened_to_float32(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 0.15625], np.float32)  # exact in 8 bits of mantissa
    bits = (values.view(np.uint32) >> 16).astype("<u2")
    path = tmp_path / "b.safetensors"
    path.write_bytes(file_of({"w": entry("BF16", [3], 0, 6)}, bits.tobytes()))
    found = map_tensors(path).tensors["w"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)


def test_non_contiguous_and_big_endian_arrays_are_written_in_order(tmp_path: Path) -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4).T
    write_tensors(tmp_path / "a", {"w": array})
    np.testing.assert_array_equal(map_tensors(tmp_path / "a").tensors["w"], array)


@pytest.mark.parametrize("array", [np.array(["text"]), np.ones(2, complex), np.array([{}])])
def test_what_the_format_cannot_hold_is_not_written(tmp_path: Path, array: Any) -> None:
    with pytest.raises(ArtifactError, match="safetensors has no dtype"):
        write_tensors(tmp_path / "a", {"w": array})
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_tensors(path, {"w": np.ones(2)})
    before = path.read_bytes()
    (tmp_path / "a.new").mkdir()  # stands for any refusal of the disk
    with pytest.raises(StorageError, match="cannot write a"):
        write_tensors(path, {"w": np.zeros(2)})
    assert path.read_bytes() == before


BAD: list[tuple[str, bytes, str]] = [
    ("empty", b"", "8 bytes or more"),
    ("pickle", b"\x80\x04\x95" + b"." * 40, "another format"),
    ("zip", b"PK\x03\x04" + b"\0" * 100, "another format|begins with"),
    ("long header", (2**20 + 1).to_bytes(8, "little") + b"{}", "another format"),
    ("cut header", (50).to_bytes(8, "little") + b"{}", "cut short"),
    ("not json", file_of(b"{nonsense}"), "not sound JSON"),
    ("not utf-8", file_of(b'{"\xff": 1}'), "not UTF-8"),
    ("array", file_of(b"[]"), "begins with"),
    ("space first", file_of(b" {}"), "begins with"),
    ("nan", file_of(b'{"w": NaN}'), "NaN is not allowed"),
    ("deep", file_of(b'{"w": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "deep"),
    ("digits", file_of(b'{"w": ' + b"9" * 100_000 + b"}"), "not sound JSON"),
    ("number", file_of({"w": 1}), "needs dtype, shape and data_offsets"),
    ("extra key", file_of({"w": entry("U8", [1], 0, 1) | {"x": 1}}, b"1"), "needs dtype"),
    ("metadata", file_of({"__metadata__": {"a": 1}}), "map text to text"),
    ("dtype", file_of({"w": entry("O", [1], 0, 8)}, b"1" * 8), "known: BOOL"),
    ("dtype text", file_of({"w": entry("f4," * 9, [1], 0, 4)}, b"1234"), "known: BOOL"),
    ("negative", file_of({"w": entry("U8", [-1], 0, 1)}, b"1"), "dimensions of 0 to"),
    ("bool", file_of({"w": entry("U8", [True], 0, 1)}, b"1"), "dimensions of 0 to"),
    ("float", file_of({"w": entry("U8", [1.0], 0, 1)}, b"1"), "dimensions of 0 to"),
    ("wrap", file_of({"w": entry("U8", [2**33, 2**33], 0, 0)}), "dimensions of 0 to"),
    ("huge empty", file_of({"w": entry("U8", [0, *[2**31 - 1] * 3], 0, 0)}), "beyond any"),
    ("nine", file_of({"w": entry("U8", [1] * 9, 0, 1)}, b"1"), "at most 8"),
    ("size", file_of({"w": entry("F32", [2], 0, 4)}, b"1234"), "takes 8 bytes"),
    ("backwards", file_of({"w": entry("U8", [1], 1, 0)}, b"1"), "takes 1 bytes"),
    ("offsets", file_of({"w": {**entry("U8", [1], 0, 1), "data_offsets": [0]}}, b"1"), "begin"),
    ("gap", file_of({"w": entry("U8", [1], 1, 2)}, b"12"), "neither overlap nor leave gaps"),
    (
        "overlap",
        file_of({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, b"123"),
        "neither overlap nor leave gaps",
    ),
    ("behind", file_of({"w": entry("U8", [1], 0, 1)}, b"12"), "something behind"),
    ("cut data", file_of({"w": entry("U8", [2], 0, 2)}, b"1"), "cut short"),
    ("no name", file_of({"": entry("U8", [1], 0, 1)}, b"1"), "printable"),
    ("control name", file_of({"a\n": entry("U8", [1], 0, 1)}, b"1"), "printable"),
    ("surrogate", file_of(b'{"\\ud800": {"dtype": "U8"}}', b"1"), "printable"),
    (
        "twice",
        file_of(
            b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
            b'"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
            b"1",
        ),
        "given twice",
    ),
]


@pytest.mark.parametrize(("raw", "reason"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_hostile_file_is_refused_with_the_reason(tmp_path: Path, raw: bytes, reason: str) -> None:
    path = tmp_path / "bad"
    path.write_bytes(raw)
    for read in (read_header, map_tensors):
        with pytest.raises(ArtifactError, match=reason) as caught:
            read(path)
        assert str(tmp_path) not in caught.value.message


def test_neither_links_nor_pipes_nor_folders_are_followed(tmp_path: Path) -> None:
    write_tensors(tmp_path / "real", {})
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", ".", "absent"):
        with pytest.raises(ArtifactError, match=r"cannot be read|not a regular file"):
            read_header(tmp_path / name)


DIMENSIONS = st.integers(-2, 5) | st.sampled_from([2**31, 2**32, 2**63, 2**64, True, 1.0, "1"])


@given(
    st.sampled_from(sorted(SIZES)),
    st.lists(DIMENSIONS, max_size=10),
    st.integers(0, 300),
)
@settings(max_examples=300, deadline=None)
def test_a_shape_is_accepted_if_and_only_if_it_makes_up_the_bytes(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, shape: list[Any], size: int
) -> None:
    path = tmp_path_factory.mktemp("t") / "a"
    path.write_bytes(file_of({"w": entry(dtype, shape, 0, size)}, b"\1" * size))
    whole = len(shape) <= 8 and all(type(d) is int and 0 <= d < 2**31 for d in shape)
    if whole and math.prod(shape) * SIZES[dtype] == size:
        assert map_tensors(path).tensors["w"].shape == tuple(shape)
    else:
        with pytest.raises(ArtifactError):
            map_tensors(path)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_mutated_file_is_read_whole_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("t") / "a"
    write_tensors(path, {"w": np.ones((2, 3), np.float32), "i": np.arange(3)}, {"k": "v"})
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    try:
        mapped = map_tensors(path)
    except ArtifactError:
        return
    covered = sum(tensor.end - tensor.begin for tensor in mapped.header.tensors.values())
    assert mapped.header.start + covered == path.stat().st_size
