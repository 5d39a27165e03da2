"""The schema of `registry.db`, and the steps that bring an older file up to date."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Final

from aiaas_async.errors import ConflictError

_FIRST: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, json BLOB NOT NULL, crc BLOB NOT NULL);
CREATE TABLE models (name TEXT PRIMARY KEY, json BLOB NOT NULL, crc BLOB NOT NULL);
CREATE TABLE versions (
  name TEXT NOT NULL, version TEXT NOT NULL, json BLOB NOT NULL, crc BLOB NOT NULL,
  PRIMARY KEY (name, version));
CREATE TABLE aliases (
  name TEXT NOT NULL, alias TEXT NOT NULL, json BLOB NOT NULL, crc BLOB NOT NULL,
  version TEXT NOT NULL,
  PRIMARY KEY (name, alias),
  FOREIGN KEY (name, version) REFERENCES versions (name, version)
    DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE jobs (id TEXT PRIMARY KEY, json BLOB NOT NULL, crc BLOB NOT NULL);
CREATE TABLE damaged (
  tbl TEXT NOT NULL, key TEXT NOT NULL, json BLOB, crc BLOB, reason TEXT NOT NULL)
"""

# MIGRATIONS[n] brings a file of schema n to schema n + 1.
MIGRATIONS: Final[tuple[str, ...]] = (_FIRST,)


def is_sound(db: sqlite3.Connection) -> bool:
    """Whether the file's tables are those its version should have; a newer version's may be any."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        return True
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as pattern:
        migrate(pattern, MIGRATIONS[:version])
        return _tables(db) == _tables(pattern)


def _tables(db: sqlite3.Connection) -> list[tuple[str, ...]]:
    return db.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
    ).fetchall()


def migrate(db: sqlite3.Connection, migrations: tuple[str, ...] = MIGRATIONS) -> None:
    """Bring the file up to date, one transaction a step: a crash leaves a whole step or none.

    Raises `ConflictError` for a file of a newer release.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise ConflictError(
            f"the registry has schema {version}, written by a newer release; this one knows "
            f"schemas up to {len(migrations)}: start the newer release"
        )
    for number in range(version, len(migrations)):
        db.execute("BEGIN IMMEDIATE")
        for statement in migrations[number].split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number + 1}")
        db.execute("COMMIT")
