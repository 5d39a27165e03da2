"""Loading: rows become the catalogue; a damaged row becomes a report, never a wrong answer.

A version whose row is damaged stays listed as corrupt, so that nobody registers something else
under its name unawares. A damaged alias, job or counter is taken out.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from aiaas_async.errors import InvalidNameError
from aiaas_async.messages import Metadata
from aiaas_async.names import ModelRef, check_name, check_version
from aiaas_async.registry.catalog import AliasRecord, Catalog, ModelRecord, VersionRecord
from aiaas_async.registry.rows import Counter, Key, encode
from aiaas_async.registry.tables import Row, move_aside, put, remove, rows

logger = logging.getLogger(__name__)

_LOST: Final = "its record in the registry is damaged"
_SECRET: Final[Key] = ("meta", "secret")
R = TypeVar("R", VersionRecord, AliasRecord, Counter)


@dataclass
class Stored:
    """What the registry holds. `damage` says in words what was found damaged this time."""

    catalog: Catalog
    jobs: list[bytes]
    secret: bytes
    damage: list[str] = field(default_factory=list)


def load(db: sqlite3.Connection, known: Sequence[str] = ()) -> Stored:
    """Read every row; what is damaged is moved aside, in one transaction.

    `known` is the damage found before, which the report begins with.
    """
    damage = list(known)
    db.execute("BEGIN IMMEDIATE")
    versions = _self_named(db, "versions", VersionRecord, damage)
    aliases = _self_named(db, "aliases", AliasRecord, damage)
    _drop_dangling(db, aliases, versions, damage)
    counters = _self_named(db, "models", Counter, damage)
    jobs = _opaque(db, "jobs", damage)
    meta = _opaque(db, "meta", damage)
    if _SECRET not in meta:
        meta[_SECRET] = secrets.token_bytes(16)
        put(db, _SECRET, meta[_SECRET])
    db.execute("COMMIT")
    for report in damage:
        logger.error("registry: %s", report)
    return Stored(_catalog(versions, aliases, counters), [*jobs.values()], meta[_SECRET], damage)


def _self_named(
    db: sqlite3.Connection, table: str, kind: type[R], damage: list[str]
) -> dict[Key, R]:
    found: dict[Key, R] = {}
    suspect: list[tuple[Row, R | None]] = []
    for row in rows(db, table):
        record = _decoded(row, kind)
        if record is not None and key_of(record) == row.key:
            found[row.key] = record
        else:
            suspect.append((row, record))
    for row, record in suspect:
        mended = record if record is None or key_of(record) not in found else None
        mended = mended or _placeholder(row, kind, found)
        damage.append(_report(row, mended))
        move_aside(db, row, damage[-1])
        if mended is not None:
            found[key_of(mended)] = mended
            put(db, key_of(mended), encode(mended))
    return found


def _drop_dangling(
    db: sqlite3.Connection,
    aliases: dict[Key, AliasRecord],
    versions: dict[Key, VersionRecord],
    damage: list[str],
) -> None:
    """Take out the aliases of versions that were lost without a trace."""
    for key, alias in list(aliases.items()):
        if ("versions", alias.name, alias.version) not in versions:
            del aliases[key]
            remove(db, key)
            damage.append(f"alias {alias.alias} of {alias.name} pointed at a lost version")


def _decoded(row: Row, kind: type[R]) -> R | None:
    if not row.sound:
        return None
    try:
        return msgspec.json.decode(row.payload, type=kind)
    except msgspec.MsgspecError:
        return None


def _placeholder(row: Row, kind: type[R], found: dict[Key, R]) -> Any:
    """What stands for a lost version: its name, and that it is corrupt."""
    if kind is not VersionRecord or row.key in found:
        return None
    _, name, version = row.key
    try:
        ref = ModelRef(check_name(name), check_version(version))
    except InvalidNameError:
        return None
    empty = Metadata(name, version, (), ())
    return VersionRecord(ref, empty, empty, time.time(), state="corrupt", reason=_LOST)


def _report(row: Row, mended: VersionRecord | AliasRecord | Counter | None) -> str:
    table, *key = row.key
    what = f"{table}: the row of {' '.join(map(repr, key))} is damaged"
    if mended is None:
        return f"{what} and was moved aside"
    if isinstance(mended, VersionRecord) and mended.reason == _LOST:
        return f"{what}; the version is listed as corrupt"
    return f"{what}; it was mended from its content as {' '.join(key_of(mended)[1:])}"


def _opaque(db: sqlite3.Connection, table: str, damage: list[str]) -> dict[Key, bytes]:
    found = list(rows(db, table))
    for row in found:
        if not row.sound:
            damage.append(_report(row, None))
            move_aside(db, row, damage[-1])
    return {row.key: row.payload for row in found if row.sound}


def key_of(record: VersionRecord | AliasRecord | Counter) -> Key:
    """The row a record belongs in."""
    match record:
        case VersionRecord():
            return ("versions", *record.ref)
        case AliasRecord():
            return ("aliases", record.name, record.alias)
        case Counter():
            return ("models", record.name)


def _catalog(
    versions: dict[Key, VersionRecord],
    aliases: dict[Key, AliasRecord],
    counters: dict[Key, Counter],
) -> Catalog:
    of: dict[str, dict[str, VersionRecord]] = {}
    for record in versions.values():
        of.setdefault(record.ref.name, {})[record.ref.version] = record
    names: dict[str, dict[str, AliasRecord]] = {}
    for alias in aliases.values():
        names.setdefault(alias.name, {})[alias.alias] = alias
    revisions = {counter.name: counter.revision for counter in counters.values()}
    return Catalog({name: _model(name, of[name], names.get(name, {}), revisions) for name in of})


def _model(
    name: str,
    versions: dict[str, VersionRecord],
    aliases: dict[str, AliasRecord],
    revisions: dict[str, int],
) -> ModelRecord:
    seen = [alias.revision for alias in aliases.values()]
    return ModelRecord(name, versions, aliases, max([0, revisions.get(name, 0), *seen]))
