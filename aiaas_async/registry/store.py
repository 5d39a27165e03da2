"""The registry on disk: SQLite, one connection, and never a wrong answer.

A write is acknowledged when its transaction is fsynced (WAL, synchronous=FULL). Every row carries
a checksum; what was damaged is moved aside and reported, the rest serves. After a disk error
nothing more is written until a restart has read back what the disk really holds.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Final

from aiaas_async.errors import (
    AiaasError,
    ConflictError,
    CorruptError,
    InternalError,
    StorageError,
)
from aiaas_async.registry.durable import storage, sync_folder
from aiaas_async.registry.loading import Stored, load
from aiaas_async.registry.log import Log, examine, log_of
from aiaas_async.registry.rows import Writes
from aiaas_async.registry.salvage import carry_through, salvage
from aiaas_async.registry.schema import is_sound, migrate
from aiaas_async.registry.tables import put, remove

logger = logging.getLogger(__name__)

# Exclusive: the WAL's index lives in our memory, and nobody else can open the file. Checkpoints
# are ours to run, because SQLite's automatic ones swallow the errors of their fsyncs.
_PRAGMAS: Final = (
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "wal_autocheckpoint = 0",
    "trusted_schema = OFF",
    "cell_size_check = ON",
)
CHECKPOINT_BYTES: Final = 4 << 20  # SQLite's own default is 1,000 pages of 4 KiB
_ROW_BYTES: Final = 8192  # what a row costs the log besides its JSON: a page of table, one of index
# After these the disk and SQLite may disagree about what is durable. A full disk is not one.
_FATAL: Final = ("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB")


class Store:
    """Not thread-safe, and bound to the thread that made it."""

    def __init__(self, path: Path) -> None:
        """Open `path`, or create it; what is damaged is salvaged as far as it can be.

        Raises `ConflictError` when in use, `CorruptError`, `StorageError`.
        """
        self._fatal: str | None = None
        self._logged = 0  # bytes written since the last checkpoint, roughly
        self._damage: list[str] = []
        carry_through(path)
        _create(path)
        log = examine(path)
        try:
            self._db = self._checked(path)
        except CorruptError as error:
            self._damage.append(salvage(path, error.message))
            self._db = self._checked(path)
        try:
            self._keep_lost(path, log)
            migrate(self._db)
        except sqlite3.Error as error:
            self._db.close()
            raise _translated(error) from error
        except BaseException:
            self._db.close()
            raise

    def _checked(self, path: Path) -> sqlite3.Connection:
        """A connection to a file whose structure is sound. Raises `CorruptError`."""
        db = sqlite3.connect(path, timeout=0.0, isolation_level=None)
        # A damaged name must not keep the other rows from being read.
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        try:
            for pragma in _PRAGMAS:
                db.execute(f"PRAGMA {pragma}")
            (found,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            if found == "ok" and not is_sound(db):
                found = "its tables are not the registry's"
        except sqlite3.Error as error:
            db.close()
            # Our statements are right, so a plain SQLITE_ERROR is about what the file holds.
            plain = _name(error) == "SQLITE_ERROR"
            raise CorruptError(str(error)) if plain else _translated(error) from error
        except UnicodeDecodeError as error:  # in SQLite's message about a damaged schema
            db.close()
            raise CorruptError("its schema is no text") from error
        if found != "ok":
            db.close()
            raise CorruptError(found)
        return db

    def _keep_lost(self, path: Path, log: Log) -> None:
        """Report acknowledged transactions that the log has lost, and keep the log for a look."""
        _, valid, _ = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if lost := log.lost(valid):
            aside = log_of(path).with_name(path.name + "-wal.damaged")
            with storage("the registry"):
                shutil.copyfile(log_of(path), aside)
            self._damage.append(
                f"the log was damaged: the last {lost} or more transactions before the restart are "
                f"lost; the log is kept as {aside.name}"
            )

    def load(self) -> Stored:
        """Read everything, moving aside what is damaged. Raises `StorageError`."""
        try:
            return load(self._db, self._damage)
        except sqlite3.Error as error:
            self._roll_back()
            raise self._noted(error) from error

    def apply(self, writes: Writes) -> None:
        """Make `writes` durable, all or none. Raises `StorageError`."""
        self.check_writable()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for key, payload in writes.items():
                if payload is None:
                    remove(self._db, key)
                else:
                    put(self._db, key, payload)
                self._logged += len(payload or b"") + _ROW_BYTES
            self._commit()
        except sqlite3.Error as error:
            self._roll_back()
            told = self._noted(error)
            raise told if isinstance(told, InternalError) else StorageError(str(told)) from error

    def _commit(self) -> None:
        self._db.execute("COMMIT")

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._fatal = str(error)

    def _noted(self, error: sqlite3.Error) -> AiaasError:
        """Our error for SQLite's; a failing disk makes the registry read-only."""
        if _name(error).startswith(_FATAL):
            self._fatal = _name(error)
        return _translated(error)

    def check_writable(self) -> None:
        """Raise `StorageError` once a disk error has made the registry read-only."""
        if self._fatal is not None:
            raise StorageError(
                f"the registry is read-only since its disk failed ({self._fatal}); "
                "check the disk, then restart the server"
            )

    @property
    def log_is_long(self) -> bool:
        return self._logged >= CHECKPOINT_BYTES

    def checkpoint(self) -> None:
        """Fold the log into the file; a failure here loses nothing."""
        self._logged = 0
        self._fold("PASSIVE")

    def _fold(self, mode: str) -> None:
        if self._fatal is not None:
            return
        try:
            self._db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error as error:
            told = self._noted(error)
            logger.error("the registry's log could not be folded into its file: %s", told)  # noqa: TRY400

    def close(self) -> None:
        """Fold the log in and let the file go. After a disk error it stays as it is."""
        if self._fatal is None:
            self._fold("TRUNCATE")
        if self._fatal is None:
            self._db.close()
        else:
            _forsake(self._db)


def _create(path: Path) -> None:
    """Never opens a file that is there: closing it would drop SQLite's locks of this process."""
    if path.exists():
        return
    with storage("the registry"):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        sync_folder(path.parent)


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "") or type(error).__name__


def _translated(error: sqlite3.Error) -> AiaasError:
    name = _name(error)
    if name.startswith("SQLITE_FULL"):
        return StorageError("the registry cannot be written: the disk is full; free some space")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return ConflictError("the registry is in use by another server")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return CorruptError(str(error))
    if name.startswith("SQLITE_CONSTRAINT"):
        return InternalError(f"the registry refused an inconsistent change ({error})")
    return StorageError(f"the registry cannot be read or written ({name}: {error})")


def _forsake(db: sqlite3.Connection) -> None:
    """Leave a connection open until the process ends.

    Closing it would fold the log in and delete it; after a failed fsync the kernel may call pages
    durable that it lost (Rebello et al., ATC 2020), and the log is their only copy.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(db))
