"""Rows: each is its key, a record as JSON, and a checksum.

The key of a model, version or alias is in its JSON too, so its checksum covers the JSON alone and
a damaged key can be mended; other rows' checksums cover both.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from aiaas_async.registry.records import AliasRecord
from aiaas_async.registry.rows import Key

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "models": ("name",),
    "versions": ("name", "version"),
    "aliases": ("name", "alias"),
    "jobs": ("id",),
    "meta": ("key",),
}
_SELF_NAMED: Final = frozenset({"models", "versions", "aliases"})


class Row(NamedTuple):
    """A row as it lies on disk; nothing in it is trusted yet."""

    rowid: int
    key: Key
    payload: Any
    crc: Any

    @property
    def sound(self) -> bool:
        """Whether the payload is the one that was written."""
        return isinstance(self.payload, bytes) and self.crc == checksum(self.key, self.payload)


def checksum(key: Key, payload: bytes) -> bytes:
    """Eight bytes over what the row `key` (its table first) holds."""
    table, *rest = key
    covered = payload if table in _SELF_NAMED else msgspec.json.encode((rest, len(payload)))
    digest = hashlib.blake2b(covered, digest_size=8, person=table.encode())
    if table not in _SELF_NAMED:
        digest.update(payload)
    return digest.digest()


def put(db: sqlite3.Connection, key: Key, payload: bytes) -> None:
    """Insert a row, or put it in the place of the one with its key."""
    table, *values = key
    columns = [*KEYS[table], "json", "crc"]
    values = [*values, payload, checksum(key, payload)]  # type: ignore[list-item]
    if table == "aliases":
        columns.append("version")
        values.append(msgspec.json.decode(payload, type=AliasRecord).version)
    marks = ", ".join("?" * len(columns))
    update = ", ".join(f"{c} = excluded.{c}" for c in columns[len(KEYS[table]) :])
    db.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) "  # noqa: S608 names from KEYS
        f"ON CONFLICT ({', '.join(KEYS[table])}) DO UPDATE SET {update}",
        values,
    )


def remove(db: sqlite3.Connection, key: Key) -> None:
    table, *values = key
    where = " AND ".join(f"{column} = ?" for column in KEYS[table])
    db.execute(f"DELETE FROM {table} WHERE {where}", values)  # noqa: S608 names from KEYS


def rows(db: sqlite3.Connection, table: str) -> Iterator[Row]:
    """Every row of a table, in the order of insertion."""
    columns = ", ".join(KEYS[table])
    query = f"SELECT rowid, {columns}, json, crc FROM {table} ORDER BY rowid"  # noqa: S608
    for rowid, *key, payload, crc in db.execute(query):
        yield Row(rowid, (table, *map(str, key)), payload, crc)


def move_aside(db: sqlite3.Connection, row: Row, reason: str) -> None:
    """Take a damaged row out of its table, keeping what there is of it."""
    table, *key = row.key
    facts = (table, msgspec.json.encode(key).decode(), row.payload, row.crc, reason)
    db.execute("INSERT INTO damaged (tbl, key, json, crc, reason) VALUES (?, ?, ?, ?, ?)", facts)
    db.execute(f"DELETE FROM {table} WHERE rowid = ?", (row.rowid,))  # noqa: S608 names from KEYS
