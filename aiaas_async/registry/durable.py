"""Making files durable, and saying so when the disk refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiaas_async.errors import StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def storage(what: str) -> Iterator[None]:
    """Turns an `OSError` into `StorageError`; `what` is a noun, never a path of the machine."""
    try:
        yield
    except OSError as error:
        full = "; free some space" if error.errno in _FULL else ""
        raise StorageError(f"{what} cannot be written: {error.strerror}{full}") from error


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
