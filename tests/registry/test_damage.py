"""Damage on disk is found at open and reported; it is never answered as if it were true."""

import json
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiaas_async.errors import ConflictError, CorruptError, StorageError
from aiaas_async.names import ModelRef
from aiaas_async.registry.catalog import Catalog
from aiaas_async.registry.draft import Draft
from aiaas_async.registry.loading import Stored
from aiaas_async.registry.schema import MIGRATIONS, migrate
from aiaas_async.registry.store import Store
from tests.registry.build import add_ready, metadata

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "aiaas_async.registry")


def change(store: Store, catalog: Catalog, what: Callable[[Draft], object]) -> Catalog:
    draft = Draft(catalog)
    what(draft)
    store.apply(draft.writes)
    return draft.catalog()


def some(draft: Draft) -> None:
    add_ready(draft, "digits", "1.0")
    add_ready(draft, "digits", "2.0")
    add_ready(draft, "letters", "0.1", description="letters of the alphabet")
    draft.set_alias("digits", "champion", "1.0")
    draft.save_job("j1", b'{"id": "j1"}')
    draft.save_job("j2", b'{"id": "j2"}')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "registry.db"
    with opened(path) as (store, stored):
        change(store, stored.catalog, some)
    return path


@contextmanager
def opened(path: Path) -> Iterator[tuple[Store, Stored]]:
    store = Store(path)
    try:
        yield store, store.load()
    finally:
        store.close()


def sql(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement, values)


def names_of(catalog: Catalog) -> dict[str, str]:
    return {str(record.ref): record.state for record in catalog.versions()}


def test_a_version_whose_row_is_damaged_is_corrupt_and_the_others_serve(path: Path) -> None:
    sql(path, "UPDATE versions SET json = replace(json, 'image', 'imagf') WHERE version = '1.0'")
    with opened(path) as (store, stored):
        assert len(stored.damage) == 1
        assert "'digits' '1.0' is damaged; the version is listed as corrupt" in stored.damage[0]
        assert names_of(stored.catalog)["digits:1.0"] == "corrupt"
        assert names_of(stored.catalog)["digits:2.0"] == "ready"
        record = stored.catalog.version("digits", "champion")
        assert record.reason == "its record in the registry is damaged"
        with pytest.raises(ConflictError, match="lost its metadata"):
            Draft(stored.catalog).register(metadata("digits", "1.0"))
        change(store, stored.catalog, lambda d: d.delete_alias("digits", "champion"))
    with opened(path) as (store, stored):
        assert stored.damage == []
        assert names_of(stored.catalog)["digits:1.0"] == "corrupt"
        change(store, stored.catalog, lambda d: d.delete_version(ModelRef("digits", "1.0")))


def test_a_damaged_row_is_kept_aside(path: Path) -> None:
    sql(path, "UPDATE versions SET crc = x'00' WHERE name = 'letters'")
    with opened(path):
        pass
    with closing(sqlite3.connect(path)) as db:
        table, key, payload = db.execute("SELECT tbl, key, json FROM damaged").fetchone()
    assert (table, json.loads(key)) == ("versions", ["letters", "0.1"])
    assert json.loads(payload)["registered"]["description"] == "letters of the alphabet"


def test_a_damaged_name_is_mended_from_the_rows_content(path: Path) -> None:
    sql(path, "UPDATE versions SET name = 'lettess' WHERE name = 'letters'")
    with opened(path) as (_, stored):
        assert "mended from its content as letters 0.1" in stored.damage[0]
        assert names_of(stored.catalog)["letters:0.1"] == "ready"
        assert "lettess" not in stored.catalog.names()
    with opened(path) as (_, stored):
        assert stored.damage == []


@pytest.mark.parametrize("column", ["json", "crc", "id"])
def test_a_damaged_job_is_taken_out_and_the_others_stay(path: Path, column: str) -> None:
    sql(path, f"UPDATE jobs SET {column} = 'zz' WHERE id = 'j1'")
    with opened(path) as (_, stored):
        assert stored.jobs == [b'{"id": "j2"}']
        assert len(stored.damage) == 1
    with opened(path) as (_, stored):
        assert stored.damage == []


def test_a_damaged_alias_is_taken_out_and_reported(path: Path) -> None:
    sql(path, "UPDATE aliases SET json = replace(json, '1.0', '2.0')")
    with opened(path) as (_, stored):
        assert "'digits' 'champion' is damaged and was moved aside" in stored.damage[0]
        assert stored.catalog.model("digits").aliases == {}
        assert stored.catalog.model("digits").revision == 1


def test_a_lost_secret_is_made_anew_and_reported(path: Path) -> None:
    with opened(path) as (_, stored):
        secret = stored.secret
    sql(path, "UPDATE meta SET json = x'00112233445566778899aabbccddeeff'")
    with opened(path) as (_, stored):
        assert "secret" in stored.damage[0]
        assert stored.secret not in (secret, bytes.fromhex("00112233445566778899aabbccddeeff"))


def test_a_name_that_is_no_text_is_moved_aside(path: Path) -> None:
    sql(
        path,
        "UPDATE versions SET name = CAST(x'ff00fe' AS TEXT), json = 'x' WHERE name = 'letters'",
    )
    with opened(path) as (_, stored):
        assert "moved aside" in stored.damage[0]
        assert stored.catalog.names() == ("digits",)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    path.write_bytes(b"this is no database, whatever it is" * 200)
    with pytest.raises(CorruptError, match=r"restore registry.db from a backup"):
        Store(path)


def test_a_file_of_a_newer_release_is_refused(path: Path) -> None:
    sql(path, "PRAGMA user_version = 99")
    with pytest.raises(ConflictError, match="schema 99, written by a newer release"):
        Store(path)


def test_a_migration_that_fails_leaves_the_step_before_it(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "r.db", isolation_level=None)) as db:
        migrate(db, MIGRATIONS)
        broken = (*MIGRATIONS, "CREATE TABLE more (a); CREATE TABLE more (a)")
        with pytest.raises(sqlite3.OperationalError):
            migrate(db, broken)
        db.execute("ROLLBACK")
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        migrate(db, (*MIGRATIONS, "CREATE TABLE more (a)"))
        assert db.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="registry cannot be written") as caught:
        Store(tmp_path / "missing" / "registry.db")
    assert str(tmp_path) not in caught.value.message


def test_a_full_file_refuses_the_change_and_keeps_what_it_had(path: Path) -> None:
    with opened(path) as (store, stored):
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageError, match="disk is full"):
            change(store, stored.catalog, lambda d: add_ready(d, "big", description="x" * 10**5))
        store._db.execute("PRAGMA max_page_count = 1000000")
        change(store, stored.catalog, lambda d: add_ready(d, "small"))
    with opened(path) as (_, stored):
        assert stored.catalog.names() == ("digits", "letters", "small")


def big(number: int) -> Callable[[Draft], object]:
    return lambda draft: add_ready(draft, f"m{number}", description="x" * 10**6)


def test_a_long_log_is_folded_into_the_file(path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    with opened(path) as (store, stored):
        catalog = stored.catalog
        for number in range(20):
            catalog = change(store, catalog, big(number))
            if store.log_is_long:
                store.checkpoint()
        assert log.stat().st_size < 12e6
        assert path.stat().st_size > 10e6
    assert not log.exists()


@given(data=st.data())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_flipped_bit_is_found_or_changes_nothing(
    path: Path, tmp_path: Path, data: st.DataObject
) -> None:
    raw = bytearray(path.read_bytes())
    with opened(path) as (_, stored):
        good = {record.ref: record for record in stored.catalog.versions()}
        jobs, aliases = stored.jobs, dict(stored.catalog.model("digits").aliases)
        secret = stored.secret
    at = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[at // 8] ^= 1 << at % 8
    damaged = tmp_path / "damaged.db"
    for leftover in tmp_path.glob("damaged.db*"):
        leftover.unlink()
    damaged.write_bytes(raw)
    try:
        with opened(damaged) as (_, stored):
            found, reason = stored, ""
    except (CorruptError, ConflictError) as error:
        found, reason = None, error.message
    if found is None:  # the schema's number may have been hit: a newer release's, for all we know
        assert "restore registry.db from a backup" in reason or "newer release" in reason
        return
    for record in found.catalog.versions():
        assert record.state == "corrupt" or record == good[record.ref]
    assert set(found.jobs) <= set(jobs)
    held = {a: r for m in found.catalog.models() for a, r in m.aliases.items()}
    assert held.items() <= aliases.items()
    if not found.damage:
        assert {record.ref: record for record in found.catalog.versions()} == good
        assert (sorted(found.jobs), held, found.secret) == (sorted(jobs), aliases, secret)


def test_every_commit_is_synced_and_the_file_is_ours_alone(path: Path) -> None:
    with opened(path) as (store, _):
        pragmas = ("synchronous", "journal_mode", "locking_mode", "foreign_keys")
        values = [store._db.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
    assert values == [2, "wal", "exclusive", 1]
