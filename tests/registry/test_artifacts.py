"""A file in the store is whole, durable, and is what its name says."""

import errno
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import CorruptError, DigestError, InvalidError, StorageError
from aiaas_async.messages import FileEntry
from aiaas_async.registry.artifacts import LEASE_S, ArtifactStore
from tests.folders import in_memory

CONTENT = b"weights" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()
ENTRY = FileEntry("a/weights", SHA, len(CONTENT))


@pytest.fixture
def root(scratch: Path) -> Path:
    return scratch / "artifacts"


@pytest.fixture
def store(root: Path) -> ArtifactStore:
    return ArtifactStore(root)


def put(store: ArtifactStore, content: bytes = CONTENT) -> str:
    upload = store.begin()
    upload.write(content)
    sha256, size = upload.finish()
    assert size == len(content)
    return sha256


def blobs(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*/*"))


def test_an_upload_lands_under_its_hash_and_nowhere_else(store: ArtifactStore, root: Path) -> None:
    upload = store.begin()
    for piece in (CONTENT[:10], memoryview(CONTENT)[10:500], bytearray(CONTENT[500:])):
        upload.write(piece)
    assert upload.finish(SHA.upper()) == (SHA, len(CONTENT))
    upload.abort()
    assert blobs(root) == [SHA]
    assert store.path_of(SHA).read_bytes() == CONTENT
    assert store.path_of(SHA).parent.name == SHA[:2]
    assert repr(store) == "<ArtifactStore: 7000 bytes, 1 files leased>"


def test_folders_and_files_are_the_servers_alone(store: ArtifactStore, root: Path) -> None:
    put(store)
    assert {oct(p.stat().st_mode & 0o777) for p in [root, *root.iterdir()]} == {"0o700"}
    assert oct(store.path_of(SHA).stat().st_mode & 0o777) == "0o600"


def test_the_same_bytes_are_stored_once(store: ArtifactStore, root: Path) -> None:
    put(store)
    inode = store.path_of(SHA).stat().st_ino
    put(store)
    assert blobs(root) == [SHA]
    assert store.path_of(SHA).stat().st_ino == inode
    assert store.nbytes == len(CONTENT)


def test_a_wrong_digest_names_both_and_leaves_nothing(store: ArtifactStore, root: Path) -> None:
    upload = store.begin()
    upload.write(CONTENT)
    with pytest.raises(DigestError, match=SHA) as caught:
        upload.finish("00" * 32)
    assert "00" * 32 in caught.value.message
    assert blobs(root) == []
    assert store.nbytes == 0


def test_an_aborted_upload_leaves_nothing(store: ArtifactStore, root: Path) -> None:
    upload = store.begin()
    upload.write(CONTENT)
    upload.abort()
    upload.abort()
    assert (blobs(root), store.nbytes) == ([], 0)


def test_leftovers_of_a_crash_are_removed_and_the_rest_is_counted(
    store: ArtifactStore, root: Path
) -> None:
    put(store)
    store.begin().write(b"half")
    again = ArtifactStore(root)
    assert blobs(root) == [SHA]
    assert again.nbytes == len(CONTENT)


@pytest.mark.parametrize("text", ["", "ab", "../" + SHA, SHA.upper(), SHA + "\n", "/etc/passwd"])
def test_only_a_hash_becomes_a_path(store: ArtifactStore, text: str) -> None:
    with pytest.raises(InvalidError, match="no SHA-256"):
        store.path_of(text)


def test_the_quota_counts_what_is_on_its_way(root: Path) -> None:
    store = ArtifactStore(root, quota_bytes=10_000)
    put(store)
    one = store.begin()
    one.write(b"x" * 2000)
    two = store.begin()
    with pytest.raises(StorageError, match="9000 of its 10000 bytes"):
        two.write(b"y" * 2000)
    two.abort()
    one.abort()
    put(store, b"z" * 3000)


def test_a_full_disk_is_a_storage_error_and_leaves_nothing(
    store: ArtifactStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = store.begin()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing(errno.ENOSPC))
        with pytest.raises(StorageError, match="No space left on device; free some space"):
            upload.write(CONTENT)
    upload.abort()
    assert (blobs(root), store.nbytes) == ([], 0)


def test_a_failed_fsync_acknowledges_nothing(
    store: ArtifactStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = store.begin()
    upload.write(CONTENT)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(StorageError, match="Input/output error"):
            upload.finish()
    assert (blobs(root), store.nbytes) == ([], 0)


def failing(number: int) -> object:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_fresh_upload_is_known_to_be_good_and_an_old_file_is_hashed_once(
    store: ArtifactStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store)
    hashed: list[str] = []
    real = hashlib.file_digest

    def counting(file: object, name: str) -> object:
        hashed.append(name)
        return real(file, name)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", counting)
    store.verify(ENTRY)
    assert hashed == []
    again = ArtifactStore(root)
    again.verify(ENTRY)
    again.verify(ENTRY)
    assert len(hashed) == 1


def test_a_missing_file_is_named(store: ArtifactStore) -> None:
    with pytest.raises(CorruptError, match=r"^file a/weights is missing$"):
        store.verify(ENTRY)


@pytest.fixture(scope="module")
def mended() -> Iterator[tuple[Path, ArtifactStore]]:
    """One for all examples: a store makes 256 folders, and an upload mends what was damaged."""
    with in_memory() as root:
        yield root, ArtifactStore(root)


@given(at=st.integers(0, len(CONTENT) * 8 - 1), fresh=st.booleans())
def test_any_flipped_bit_is_found_even_with_the_times_set_back(
    mended: tuple[Path, ArtifactStore], at: int, fresh: bool
) -> None:
    root, store = mended
    put(store)
    path = store.path_of(SHA)
    assert path.read_bytes() == CONTENT
    before = path.stat()
    raw = bytearray(CONTENT)
    raw[at // 8] ^= 1 << at % 8
    path.write_bytes(raw)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(CorruptError, match="file a/weights has other bytes than committed"):
        (ArtifactStore(root) if fresh else store).verify(ENTRY)


def test_a_shortened_file_is_found(store: ArtifactStore) -> None:
    put(store)
    os.truncate(store.path_of(SHA), 10)
    with pytest.raises(CorruptError, match="other bytes"):
        store.verify(ENTRY)


def test_uploading_the_bytes_again_mends_a_damaged_file(store: ArtifactStore, root: Path) -> None:
    put(store)
    store.path_of(SHA).write_bytes(b"rot")
    again = ArtifactStore(root)
    put(again)
    again.verify(ENTRY)
    assert again.nbytes == len(CONTENT)


def test_a_workers_file_is_moved_in(store: ArtifactStore, root: Path) -> None:
    result = root.parent / "weights.safetensors"
    result.write_bytes(CONTENT)
    assert store.adopt(result) == (SHA, len(CONTENT))
    assert not result.exists()
    store.verify(ENTRY)
    result.write_bytes(CONTENT)
    assert store.adopt(result) == (SHA, len(CONTENT))
    assert (blobs(root), store.nbytes, result.exists()) == ([SHA], len(CONTENT), False)


def test_a_link_is_not_adopted(store: ArtifactStore, scratch: Path) -> None:
    (scratch / "link").symlink_to("/etc/hostname")
    with pytest.raises(StorageError):
        store.adopt(scratch / "link")
    assert store.nbytes == 0


def test_a_sweep_spares_what_is_in_use_or_was_just_uploaded(root: Path) -> None:
    now = 0.0
    store = ArtifactStore(root, clock=lambda: now)
    used, recent, old = put(store, b"used"), put(store, b"recent"), put(store, b"old")
    for sha256 in (used, old):
        store.release(sha256)
    assert store.sweep({used}) == 1
    assert blobs(root) == sorted([used, recent])
    now = LEASE_S + 1
    assert store.sweep(lambda: {used}) == 1
    assert (blobs(root), store.nbytes) == ([used], 4)
    assert old not in blobs(root)


def test_two_uploads_of_the_same_bytes_are_two_leases(store: ArtifactStore, root: Path) -> None:
    put(store)
    put(store)
    store.release(SHA)
    assert store.sweep(set()) == 0
    store.release(SHA)
    store.release(SHA)
    assert store.sweep(set()) == 1


def test_an_upload_that_is_added_and_released_during_a_sweep_is_spared(
    store: ArtifactStore, root: Path
) -> None:
    """The sweep asked for the digests just before the upload was added."""
    put(store, b"other")

    def digests() -> set[str]:
        put(store)
        store.release(SHA)
        return set()

    store.sweep(digests)
    assert SHA in blobs(root)


def test_a_file_swept_away_is_not_thought_good_any_more(store: ArtifactStore) -> None:
    put(store)
    store.release(SHA)
    store.sweep(set())
    with pytest.raises(CorruptError, match="missing"):
        store.verify(ENTRY)
    put(store)
    store.verify(ENTRY)


def test_many_threads_may_upload_the_same_bytes_at_once(store: ArtifactStore, root: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: put(store), range(32))) == {SHA}
    assert (blobs(root), store.nbytes) == ([SHA], len(CONTENT))
    store.verify(ENTRY)


def test_the_folders_entry_is_durable_also_when_the_file_was_there(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("aiaas_async.registry.artifacts.sync_folder", synced.append)
    put(store)
    put(store)
    assert synced == [store.path_of(SHA).parent] * 2
