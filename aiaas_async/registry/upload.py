"""An upload: bytes hashed as they come, and part of the store only when they are whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, Protocol

from aiaas_async.errors import DigestError
from aiaas_async.names import clip
from aiaas_async.registry.durable import storage

_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Receiver(Protocol):
    """What an upload needs of the store."""

    def reserve(self, size: int) -> None: ...
    def admit(self, path: Path, sha256: str) -> None: ...


class Upload:
    """One file on its way into the store: `write` until done, then `finish`, else `abort`.

    Not for several threads at once.
    """

    def __init__(self, store: Receiver, path: Path) -> None:
        self._store, self._path = store, path
        self._hash = hashlib.sha256()
        self._size = 0
        with storage("an upload"):
            self._descriptor = os.open(path, _CREATE, 0o600)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`. Raises `StorageError` when the disk or the quota is full."""
        view = memoryview(data).cast("B")
        self._store.reserve(len(view))
        self._size += len(view)
        self._hash.update(view)
        with storage("an upload"):
            while view:
                view = view[os.write(self._descriptor, view) :]

    def finish(self, expected: str | None = None) -> tuple[str, int]:
        """Make the file durable and part of the store; returns its SHA-256 (hex) and size.

        Raises `DigestError` unless the hash is `expected` (if given), `StorageError`. In either
        case nothing of the upload is left.
        """
        sha256 = self._hash.hexdigest()
        try:
            self._check(sha256, expected)
            with storage("an upload"):
                os.fsync(self._descriptor)
            self._store.admit(self._path, sha256)
        except BaseException:
            self.abort()
            raise
        self._close()
        return sha256, self._size

    def _check(self, sha256: str, expected: str | None) -> None:
        if expected is not None and expected.lower() != sha256:
            raise DigestError(
                f"the {self._size} bytes received have SHA-256 {sha256}, but {clip(expected)} was "
                "announced; send the file again",
                {"expected": clip(expected), "received": sha256},
            )

    def abort(self) -> None:
        """Leave nothing behind; again, or after `finish`, is fine."""
        if self._descriptor < 0:
            return
        self._close()
        # Once it is renamed it is the store's, to be swept when its lease ends.
        if self._path.exists():
            self._store.reserve(-self._size)
            with storage("an upload"):
                self._path.unlink()

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1
