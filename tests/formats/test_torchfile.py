"""Checkpoints are read without unpickling: what is more than tensors is refused."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import ArtifactError
from aiaas_async.formats.torchfile import read_checkpoint

MAGIC = 0x1950A86A20F9469CFC6C
NUMBERS = np.arange(12, dtype="<f4")


def described(body: bytes) -> bytes:
    """A pickle, written out by hand as PyTorch writes it: names of classes need not exist."""
    return b"\x80\x02" + body + b"."


def tensor(offset: int = 0, strides: bytes = b"K\x03K\x01", kind: bytes = b"FloatStorage") -> bytes:
    """One tensor [4, 3] on storage "7"."""
    storage = b"(X\x07\x00\x00\x00storagectorch\n" + kind + b"\nX\x01\x00\x00\x007X\x03\x00\x00\x00"
    storage += b"cpuK\x0cNtQ"
    shape = b"K\x04K\x03\x86" + strides + b"\x86"
    ordered = b"ccollections\nOrderedDict\n)R"
    given = b"(" + storage + b"K" + bytes([offset]) + shape + b"\x89" + ordered + b"tR"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + given


def checkpoint(content: bytes, count: int = 12) -> bytes:
    one_entry = b"ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00w" + content + b"u"
    parts = [
        pickle.dumps(MAGIC, 2),
        pickle.dumps(1001, 2),
        pickle.dumps({"little_endian": True}, 2),
    ]
    parts += [described(one_entry), pickle.dumps(["7"], 2)]
    return b"".join(parts) + struct.pack("<q", count) + NUMBERS.tobytes()


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], dict[str, Any]]:
    def written_and_read(data: bytes) -> dict[str, Any]:
        path = tmp_path / "file.pth"
        path.write_bytes(data)
        return read_checkpoint(path)

    return written_and_read


def test_tensors_come_out_with_their_shapes_and_strides(
    read: Callable[[bytes], dict[str, Any]],
) -> None:
    found = read(checkpoint(tensor()))
    assert list(found) == ["w"]
    np.testing.assert_array_equal(found["w"], NUMBERS.reshape(4, 3))
    turned = read(checkpoint(tensor(strides=b"K\x01K\x04")))
    np.testing.assert_array_equal(turned["w"], NUMBERS.reshape(3, 4).T)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("it was run",))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "cannot be read|no PyTorch checkpoint"),
        (pickle.dumps(5, 2), "no PyTorch checkpoint of the first format"),
        (pickle.dumps(Evil(), 2), "more than plain tensors"),
        (checkpoint(pickle.dumps(Evil(), 2)[2:-1]), "more than plain tensors"),
        (checkpoint(tensor(offset=1)), r"tensor \[4, 3\] beyond its storage"),
        (checkpoint(tensor(), count=2**40), "a storage of"),
        (checkpoint(tensor(), count=13), "48 bytes left, but a storage of 52"),
        (checkpoint(tensor(kind=b"HalfStorage")), "more than plain tensors"),
        (checkpoint(b""), "cannot be read"),
    ],
)
def test_anything_else_is_refused(
    read: Callable[[bytes], dict[str, Any]], data: bytes, complaint: str
) -> None:
    with pytest.raises(ArtifactError, match=complaint):
        read(data)


def test_a_count_beyond_the_file_asks_for_no_memory(read: Callable[[bytes], Any]) -> None:
    for operation in (b"\x8d", b"\x8e"):  # a text, or bytes, of as many bytes as 8 more say
        body = operation + struct.pack("<Q", 2**62)
        with pytest.raises(ArtifactError, match=r"cannot be read: .* but only"):
            read(checkpoint(body))


@given(st.data())
def test_a_damaged_checkpoint_is_refused_or_read_never_more(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(checkpoint(tensor()))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(bytes(whole))
    with suppress(ArtifactError):
        read_checkpoint(path)
