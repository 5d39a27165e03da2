"""From a file whose structure is damaged every sound row is kept, and the rest is named."""

import logging
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from aiaas_async.errors import StorageError
from aiaas_async.registry import durable
from aiaas_async.registry.draft import Draft
from aiaas_async.registry.loading import Stored
from aiaas_async.registry.store import Store
from tests.registry.build import add_ready

COUNT = 40


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "aiaas_async.registry")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "registry.db"
    with closing(Store(path)) as store:
        draft = Draft(store.load().catalog)
        for number in range(COUNT):
            add_ready(draft, f"m{number}", description="x" * 300)
            draft.set_alias(f"m{number}", "champion", "1.0")
            draft.save_job(str(number), b"{}")
        store.apply(draft.writes)
    return path


def pages_of(path: Path, name: str) -> list[int]:
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf'"
        try:
            return [page for (page,) in db.execute(query, (name,))]
        except sqlite3.OperationalError:
            pytest.skip("this SQLite has no dbstat")


def wipe(path: Path, page: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(raw)


def reopened(path: Path) -> Stored:
    with closing(Store(path)) as store:
        return store.load()


def states(stored: Stored) -> list[str]:
    return [record.state for record in stored.catalog.versions()]


def test_a_lost_page_of_versions_leaves_them_listed_as_corrupt(path: Path) -> None:
    wipe(path, pages_of(path, "versions")[3])
    stored = reopened(path)
    assert "the file was damaged" in stored.damage[0]
    assert "kept as registry.db.damaged" in stored.damage[0]
    assert len(states(stored)) == COUNT
    corrupt = states(stored).count("corrupt")
    assert 1 <= corrupt <= 6
    assert states(stored).count("ready") == COUNT - corrupt
    assert all(model.alias("champion") for model in stored.catalog.models())
    assert len(stored.jobs) == COUNT
    again = reopened(path)
    assert again.damage == []
    assert states(again) == states(stored)
    assert path.with_name("registry.db.damaged").exists()


def test_a_lost_page_of_an_index_loses_nothing(path: Path) -> None:
    wipe(path, pages_of(path, "sqlite_autoindex_versions_1")[0])
    stored = reopened(path)
    assert f"{COUNT * 4 + 1} rows were salvaged, 0 known" in stored.damage[0]
    assert states(stored) == ["ready"] * COUNT


def test_a_table_that_lost_a_column_name_is_read_by_position(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"id TEXT PRIMARY", b"ie TEXT PRIMARY"))
    stored = reopened(path)
    assert "its tables are not the registry's" in stored.damage[0]
    assert len(stored.jobs) == COUNT


def test_the_changes_still_in_the_log_are_salvaged_too(path: Path, tmp_path: Path) -> None:
    page = pages_of(path, "jobs")[0]
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    with closing(Store(path)) as store:
        draft = Draft(store.load().catalog)
        add_ready(draft, "late")
        store.apply(draft.writes)
        for file in tmp_path.glob("registry.db*"):
            shutil.copy(file, crashed / file.name)
    wipe(crashed / "registry.db", page)
    stored = reopened(crashed / "registry.db")
    assert "the file was damaged" in stored.damage[0]
    assert "late" in stored.catalog.names()
    assert states(stored) == ["ready"] * (COUNT + 1)


def cut_short(patch: pytest.MonkeyPatch, crash_at: int) -> None:
    """Makes the salvage's `crash_at`th step on the disk fail as if the power went."""
    count = 0

    def counted(real: Any) -> Any:
        def step(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count > crash_at:
                raise OSError(5, "power failure")
            return real(*args, **options)

        return step

    for name in ("replace", "unlink"):
        patch.setattr(Path, name, counted(getattr(Path, name)))
    for name in ("sync_folder", "sync_file"):
        patch.setattr(f"aiaas_async.registry.salvage.{name}", counted(getattr(durable, name)))
    patch.setattr(shutil, "copyfile", counted(shutil.copyfile))


@pytest.mark.parametrize("crash_at", range(12))
def test_a_salvage_cut_short_anywhere_is_carried_through(path: Path, crash_at: int) -> None:
    wipe(path, pages_of(path, "versions")[3])
    with pytest.MonkeyPatch.context() as patch, suppress(StorageError):
        cut_short(patch, crash_at)
        reopened(path)
    stored = reopened(path)
    assert len(states(stored)) == COUNT
    assert states(stored).count("ready") >= COUNT - 6
    assert not path.with_name("registry.db.salvaged").exists()
    assert path.with_name("registry.db.damaged").exists()


def test_an_old_log_is_never_replayed_over_the_salvaged_file(path: Path, tmp_path: Path) -> None:
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    shutil.copy(path, crashed / "registry.db.salvaged")
    with closing(Store(path)) as store:
        draft = Draft(store.load().catalog)
        draft.delete_model("m7")
        store.apply(draft.writes)
        for name in ("registry.db", "registry.db-wal"):
            shutil.copy(tmp_path / name, crashed / name)
    assert "m7" in reopened(crashed / "registry.db").catalog.names()
