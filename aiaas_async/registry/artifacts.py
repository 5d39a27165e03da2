"""Artifacts: files by their SHA-256, so versions that hold the same file share it.

A file is written aside, made durable, and renamed to `ab/<sha256>`; nothing a user chose is part
of a path. Every method may be called from any thread.

Between the end of an upload and the moment the catalogue names its file nobody refers to it; the
store keeps such files until `release`, or for an hour.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

from aiaas_async.errors import CorruptError, InvalidError, StorageError
from aiaas_async.messages import FileEntry
from aiaas_async.names import clip
from aiaas_async.registry.durable import storage, sync_folder
from aiaas_async.registry.upload import Upload

LEASE_S: Final = 3600.0
_SHA256: Final = re.compile("[0-9a-f]{64}")

# inode, size, and both times in ns: the time of the last change cannot be set by a program.
Signature = tuple[int, int, int, int]


class ArtifactStore:
    """`quota_bytes` bounds the sum of all files, those on their way in included; 0: no bound."""

    def __init__(
        self,
        root: Path,
        quota_bytes: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._quota, self._clock = root, quota_bytes, clock
        self._incoming = root / "incoming"
        self._lock = threading.Lock()
        self._good: dict[str, Signature] = {}
        self._leases: dict[str, list[float]] = {}
        self._touched: set[str] = set()  # finished while a sweep is under way
        with storage("the artifact store"):
            for folder in (root, self._incoming):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in self._incoming.iterdir():
                leftover.unlink()
            self._bytes = sum(path.stat().st_size for path in self._blobs())
            self._make_folders()

    def _make_folders(self) -> None:
        """All 256, so that no upload has to make a folder's own name durable."""
        missing = {f"{n:02x}" for n in range(256)} - {path.name for path in self._root.iterdir()}
        for name in missing:
            (self._root / name).mkdir(mode=0o700)
        if missing:
            sync_folder(self._root)

    def _blobs(self) -> Iterator[Path]:
        return (path for path in self._root.glob("??/*") if _SHA256.fullmatch(path.name))

    @property
    def nbytes(self) -> int:
        """Bytes stored and on their way in."""
        return self._bytes

    def __repr__(self) -> str:
        quota = f" of {self._quota}" if self._quota else ""
        return f"<ArtifactStore: {self._bytes}{quota} bytes, {len(self._leases)} files leased>"

    def begin(self) -> Upload:
        """A new file on its way in. Raises `StorageError`."""
        return Upload(self, self._incoming / secrets.token_hex(16))

    def path_of(self, sha256: str) -> Path:
        """Where the bytes with this hash are, or would be."""
        if not _SHA256.fullmatch(sha256):
            raise InvalidError(f"{clip(sha256)} is no SHA-256 in lower-case hex")
        return self._root / sha256[:2] / sha256

    def adopt(self, path: Path) -> tuple[str, int]:
        """Move a file that the server's own worker wrote into the store: its hash and size.

        The file must be on the store's file system. Raises `StorageError`.
        """
        with storage("a worker's file"):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
        self.reserve(size)
        try:
            self.admit(path, sha256)
        except BaseException:
            if path.exists():
                self.reserve(-size)
            raise
        return sha256, size

    def reserve(self, size: int) -> None:
        """Count `size` bytes more. Raises `StorageError` beyond the quota."""
        with self._lock:
            if 0 < self._quota < self._bytes + size and size > 0:
                raise StorageError(
                    f"the artifact store is full: {self._bytes} of its {self._quota} bytes are "
                    "taken; delete versions, or raise the quota"
                )
            self._bytes += size

    def admit(self, path: Path, sha256: str) -> None:
        """Take in a durable, reserved file whose bytes were just hashed; it is leased, and good."""
        target = self.path_of(sha256)
        with storage("an artifact"):
            with self._lock:
                self._leases.setdefault(sha256, []).append(self._clock())
                self._touched.add(sha256)
                there = _signature(target)
                if there is not None and there == self._good.get(sha256):
                    path.unlink()
                else:
                    # Also over a file not yet examined since the start: damage is mended thus.
                    path.replace(target)
                self._bytes -= 0 if there is None else there[1]
                good = _signature(target)
                assert good is not None
                self._good[sha256] = good
            # Even when it was there: another's rename may not be durable yet.
            sync_folder(target.parent)

    def release(self, sha256: str) -> None:
        """The catalogue names an upload's file now, or never will."""
        with self._lock:
            leases = self._leases.get(sha256, [])
            if leases:
                leases.pop(0)
            if not leases:
                self._leases.pop(sha256, None)

    def verify(self, entry: FileEntry) -> None:
        """Make sure that a file holds what was committed; hashes it unless that is known already.

        Raises `CorruptError` saying what is wrong, `StorageError` when it cannot be examined.
        """
        path = self.path_of(entry.sha256)
        try:
            with path.open("rb") as file:
                before = _signature_of(os.fstat(file.fileno()))
                if self._good.get(entry.sha256) == before:
                    return
                same = before[1] == entry.size
                same = same and hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
        except FileNotFoundError as error:
            raise CorruptError(f"file {entry.path} is missing") from error
        except OSError as error:
            if error.errno == errno.EIO:
                raise CorruptError(f"file {entry.path} cannot be read from the disk") from error
            raise StorageError(f"file {entry.path} cannot be examined: {error.strerror}") from error
        if not same:
            raise CorruptError(f"file {entry.path} has other bytes than committed")
        with self._lock:
            self._good[entry.sha256] = before

    def sweep(self, digests_in_use: Collection[str] | Callable[[], Collection[str]]) -> int:
        """Delete the files that nobody refers to; returns how many.

        Given a function, it is called after the leases were noted, so that no upload can slip
        between the two; a collection must be no older than the last `release`.
        """
        with self._lock:
            now = self._clock()
            kept = {s for s, since in self._leases.items() if since[-1] > now - LEASE_S}
            self._leases = {s: self._leases[s] for s in kept}
            self._touched = set()
        kept |= set(digests_in_use() if callable(digests_in_use) else digests_in_use)
        with storage("the artifact store"):
            return sum(self._dropped(path) for path in self._blobs() if path.name not in kept)

    def _dropped(self, path: Path) -> bool:
        with self._lock:
            there = _signature(path)
            if path.name in self._touched or there is None:
                return False
            path.unlink()
            self._bytes -= there[1]
            self._good.pop(path.name, None)
            return True


def _signature(path: Path) -> Signature | None:
    try:
        return _signature_of(path.stat())
    except FileNotFoundError:
        return None


def _signature_of(facts: os.stat_result) -> Signature:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
