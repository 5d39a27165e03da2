"""One server to a data directory: a lock the kernel lets go of when the server dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from aiaas_async.errors import ConflictError
from aiaas_async.registry.durable import storage


class DataDirectoryLock:
    """Taken when made; `release` (or leaving the `with` block) gives it up."""

    def __init__(self, data_dir: Path) -> None:
        """Raises `ConflictError` when another server has it."""
        with storage("the data directory's lock"):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(data_dir / "lock", flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise ConflictError(
                "the data directory is in use by another server; stop that one, or name another "
                "directory with --data-dir"
            ) from error

    def release(self) -> None:
        """Let go; again is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> DataDirectoryLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
