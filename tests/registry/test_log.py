"""Damage in the write-ahead log is told from a transaction that a crash cut short."""

import logging
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiaas_async.registry.draft import Draft
from aiaas_async.registry.loading import Stored
from aiaas_async.registry.log import Log, examine, log_of
from aiaas_async.registry.store import Store
from tests.registry.build import metadata

COUNT = 10


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "aiaas_async.registry")


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A registry as a kill leaves it: ten transactions in its log."""
    live, crashed = tmp_path / "live", tmp_path / "crashed"
    live.mkdir()
    crashed.mkdir()
    with closing(Store(live / "registry.db")) as store:
        catalog = store.load().catalog
        for number in range(COUNT):
            draft = Draft(catalog)
            draft.register(metadata(f"m{number}"))
            store.apply(draft.writes)
            catalog = draft.catalog()
        for file in live.iterdir():
            shutil.copy(file, crashed / file.name)
    return crashed / "registry.db"


def reopened(path: Path) -> Stored:
    with closing(Store(path)) as store:
        return store.load()


def test_a_whole_log_is_read_to_its_end(crashed: Path) -> None:
    stored = reopened(crashed)
    assert (len(stored.catalog), stored.damage) == (COUNT, [])
    assert not log_of(crashed).exists()


def test_without_a_log_nothing_is_lost(tmp_path: Path) -> None:
    log = examine(tmp_path / "registry.db")
    assert log == Log(header_is_sound=True, commits=(), last=0)
    (tmp_path / "registry.db-wal").write_bytes(b"short")
    assert examine(tmp_path / "registry.db").lost(0) == 0


@given(data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_log_cut_anywhere_is_no_damage(crashed: Path, data: st.DataObject) -> None:
    copy = fresh_copy(crashed)
    raw = log_of(copy).read_bytes()
    log_of(copy).write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    stored = reopened(copy)
    names = [f"m{number}" for number in range(COUNT)]
    assert list(stored.catalog.names()) == names[: len(stored.catalog)]
    assert stored.damage == []


@given(data=st.data())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_flipped_bit_before_the_last_transaction_is_reported(
    crashed: Path, data: st.DataObject
) -> None:
    copy = fresh_copy(crashed)
    raw = bytearray(log_of(copy).read_bytes())
    commits = examine(copy).commits
    assert len(commits) > COUNT
    end = 32 + commits[-2] * (24 + 4096)
    at = data.draw(st.integers(0, end * 8 - 1))
    raw[at // 8] ^= 1 << at % 8
    log_of(copy).write_bytes(raw)
    stored = reopened(copy)
    assert "the log was damaged" in stored.damage[0]
    assert log_of(copy).with_name("registry.db-wal.damaged").read_bytes() == bytes(raw)
    assert all(record.state == "registered" for record in stored.catalog.versions())
    assert reopened(copy).damage == []


def fresh_copy(path: Path) -> Path:
    folder = path.parent.with_name("copy")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(path.parent, folder)
    return folder / path.name


def test_a_damaged_header_loses_every_transaction_and_counts_them(crashed: Path) -> None:
    sound = examine(crashed)
    raw = bytearray(log_of(crashed).read_bytes())
    raw[17] ^= 1
    log_of(crashed).write_bytes(raw)
    assert examine(crashed) == Log(False, sound.commits, sound.last)
    assert examine(crashed).lost(0) == len(sound.commits)
