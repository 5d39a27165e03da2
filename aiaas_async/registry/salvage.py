"""Salvage: from a file whose structure is damaged, every row that can still be proved right.

The rows go to a new file, which takes the damaged one's place; the damaged one is kept beside it.
A crash at any point leaves either the damaged file, to be salvaged again, or the new file: that is
complete once it has its name, and the next start carries the change through.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from aiaas_async.errors import CorruptError
from aiaas_async.registry.durable import storage, sync_file, sync_folder
from aiaas_async.registry.log import log_of
from aiaas_async.registry.schema import MIGRATIONS, migrate
from aiaas_async.registry.tables import KEYS

_NEW: Final = ".salvaged"
_OLD: Final = ".damaged"
Values = tuple[Any, ...]


def salvage(database: Path, why: str) -> str:
    """Put a sound file in the place of the damaged `database`; returns a report.

    Raises `CorruptError` when not even the tables can be found.
    """
    unfinished = database.with_name(database.name + _NEW + ".part")
    with storage("the registry"):
        for leftover in (unfinished, log_of(unfinished)):
            leftover.unlink(missing_ok=True)
        try:
            kept, lost = _copy_rows(database, unfinished)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise CorruptError(
                f"the registry's file is damaged beyond repair ({why}); restore registry.db from "
                "a backup"
            ) from error
        sync_file(unfinished)
        unfinished.replace(database.with_name(database.name + _NEW))
        sync_folder(database.parent)
    carry_through(database)
    return (
        f"the file was damaged ({why}): {kept} rows were salvaged, {lost} known to be there were "
        f"not; the damaged file is kept as {database.name}{_OLD}"
    )


def carry_through(database: Path) -> None:
    """Finish what a crash may have interrupted: the new file takes the old one's place."""
    new = database.with_name(database.name + _NEW)
    if not new.exists():
        return
    with storage("the registry"):
        for path in (database, log_of(database)):
            if path.exists():
                shutil.copyfile(path, path.with_name(path.name + _OLD))
        # The old log must go first: SQLite would replay it over the new file.
        log_of(database).unlink(missing_ok=True)
        sync_folder(database.parent)
        new.replace(database)
        sync_folder(database.parent)


def _copy_rows(source: Path, target: Path) -> tuple[int, int]:
    """How many rows were copied, and how many that an index knows of were not.

    Whether a copied row is right is for its checksum to say, when it is loaded.
    """
    kept = lost = 0
    with closing(_opened(source)) as old, closing(_opened(target)) as new:
        (version,) = old.execute("PRAGMA user_version").fetchone()
        migrate(new, MIGRATIONS[:version] if version > 0 else MIGRATIONS)
        new.execute("BEGIN IMMEDIATE")
        for table in KEYS:
            rows = _readable(old, table)
            for values in rows.values():
                _insert(new, table, values)
            known = _indexed(old, table)
            if table == "versions":
                for rowid in known.keys() - rows.keys():  # to be listed as corrupt
                    _insert(new, table, (*known[rowid], b"", b""))
            kept, lost = kept + len(rows), lost + len(known.keys() - rows.keys())
        new.execute("COMMIT")
    return kept, lost


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return db


def _readable(db: sqlite3.Connection, table: str) -> dict[int, Values]:
    """Rows by their number: read forwards, backwards, and one by one as the index has them."""
    found: dict[int, Values] = {}
    query = f"SELECT rowid, * FROM {table} NOT INDEXED"  # noqa: S608 names from KEYS
    for order in ("", " ORDER BY rowid DESC"):
        found |= dict(_until_damage(db, query + order))
    for rowid in _indexed(db, table).keys() - found.keys():
        found |= dict(_until_damage(db, f"{query} WHERE rowid = {rowid:d}"))
    return found


def _indexed(db: sqlite3.Connection, table: str) -> dict[int, Values]:
    """The rows' numbers and keys as the table's index has them."""
    columns = ", ".join(KEYS[table])
    index = f"sqlite_autoindex_{table}_1"
    query = f"SELECT rowid, {columns} FROM {table} INDEXED BY {index}"  # noqa: S608 names from KEYS
    return dict(_until_damage(db, query))


def _until_damage(db: sqlite3.Connection, query: str) -> Iterator[tuple[int, Values]]:
    with suppress(sqlite3.DatabaseError, UnicodeDecodeError):
        for rowid, *values in db.execute(query):
            yield rowid, tuple(values)


def _insert(db: sqlite3.Connection, table: str, values: Values) -> None:
    marks = ", ".join("?" * len(values))
    with suppress(sqlite3.IntegrityError):  # two rows of one key, or none: the first one stands
        db.execute(f"INSERT INTO {table} VALUES ({marks})", values)  # noqa: S608 names from KEYS
