"""Opening files of unknown origin, and writing files that a crash leaves whole or absent."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from aiaas_async.errors import ArtifactError, StorageError

# A link is never followed, and a pipe in a file's place must not block the reader.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


@contextmanager
def opened(path: Path, what: str) -> Iterator[tuple[BinaryIO, int]]:
    """The regular file at `path` and its size. Raises `ArtifactError` speaking of `what`."""
    try:
        file = os.fdopen(os.open(path, _READ), "rb")
    except OSError as error:
        raise ArtifactError(f"{what} cannot be read: {error.strerror}") from error
    with file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ArtifactError(f"{what} is not a regular file")
        yield file, facts.st_size


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` at the end, durably unless said otherwise.

    On any failure `path` stays as it was. Raises `StorageError` for what the disk refuses.
    """
    aside = path.with_name(path.name + ".new")
    try:
        aside.unlink(missing_ok=True)
        with os.fdopen(os.open(aside, _WRITE, 0o600), "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        aside.replace(path)
        if durable:
            _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError(
                f"cannot write {path.name}: {error.strerror}; free space?"
            ) from error
        raise


def _sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
