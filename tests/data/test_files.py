"""A file is replaced as a whole, and a full disk is told without the machine's paths."""

import os
from pathlib import Path

import pytest

from aiaas_async.data.files import Unsynced, cut, replace, write_at
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


def test_files_that_are_written_together_are_synced_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append((tmp_path / "b").read_bytes())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    files = Unsynced()
    files.write_at(tmp_path / "a", 0, b"one", b"two")
    files.write_at(tmp_path / "b", 2, b"ZZ")
    files.write_at(tmp_path / "b", 0, b"XY")
    assert synced == []
    files.sync()
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert synced == [b"XYZZ"] * 2  # each file once, when all is written
    files.sync()
    assert len(synced) == 2


def test_files_that_cannot_be_synced_are_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: int) -> None:
        raise OSError(5, "Input/output error")

    before = len(list(Path("/proc/self/fd").iterdir()))
    files = Unsynced()
    files.write_at(tmp_path / "a", 0, b"one")
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StorageError, match="cannot write a: Input/output error"):
        files.sync()
    files.forget()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_no_more_files_are_open_at_once_than_a_process_should_hold(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    files = Unsynced()
    for number in range(100):
        files.write_at(tmp_path / str(number), 0, b"x")
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 16
    files.sync()
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"x"}
