"""A file is replaced as a whole, and a full disk is told without the machine's paths."""

from pathlib import Path

import pytest

from aiaas_async.data.files import cut, replace, write_at
from aiaas_async.errors import StorageError


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    (tmp_path / "f.new").write_bytes(b"left by a crash, and longer")
    replace(path, b"one")
    replace(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_at_an_offset_and_cutting(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_at(path, b"abcdef", 0)
    write_at(path, b"XY", 2)
    cut(path, 5)
    assert path.read_bytes() == b"abXYe"


def test_a_failing_disk_is_a_storage_error_without_the_path(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write f: No such file") as caught:
        write_at(tmp_path / "missing" / "f", b"", 0)
    assert str(tmp_path) not in caught.value.message


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"untouched")
    (tmp_path / "f").symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError):
        write_at(tmp_path / "f", b"!", 0)
    assert (tmp_path / "victim").read_bytes() == b"untouched"
