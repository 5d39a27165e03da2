"""A change is acknowledged when the disk has it, and visible when it is acknowledged."""

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aiaas_async.errors import (
    ConflictError,
    InternalError,
    OverloadedError,
    StoppingError,
    StorageError,
)
from aiaas_async.registry.draft import Draft
from aiaas_async.registry.rows import Writes
from aiaas_async.registry.store import Store
from aiaas_async.registry.writer import RegistryWriter
from tests.registry.build import add_ready, entry, metadata


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[RegistryWriter]:
    opened = await RegistryWriter.open(tmp_path / "registry.db")
    yield opened
    await opened.close()


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    writer = await RegistryWriter.open(path)
    await writer.mutate(add_ready)
    await writer.mutate(lambda draft: draft.register(metadata(version="2.0")))
    await writer.mutate(lambda draft: draft.set_alias("digits", "champion", "1.0"))
    await writer.mutate(lambda draft: draft.save_job("j1", b'{"id": "j1"}'))
    before, secret = writer.catalog, writer.secret
    await writer.close()
    again = await RegistryWriter.open(path)
    assert list(again.catalog.models()) == list(before.models())
    assert again.jobs() == [b'{"id": "j1"}']
    assert (again.secret, len(secret), again.damage) == (secret, 16, ())
    await again.close()


async def test_a_refused_mutation_fails_alone(writer: RegistryWriter) -> None:
    def half(draft: Draft) -> None:
        draft.register(metadata("half"))
        draft.add_file(metadata("other").ref, entry())

    answers = await asyncio.gather(
        writer.mutate(lambda draft: draft.register(metadata("a"))),
        writer.mutate(half),
        writer.mutate(lambda draft: draft.register(metadata("b"))),
        return_exceptions=True,
    )
    assert [isinstance(answer, Exception) for answer in answers] == [False, True, False]
    assert writer.catalog.names() == ("a", "b")


async def test_mutations_that_queue_together_are_one_transaction(writer: RegistryWriter) -> None:
    first = writer.submit(lambda draft: draft.register(metadata("m-first")))
    await asyncio.sleep(0)
    rest = [writer.submit(lambda d, i=i: d.register(metadata(f"m{i}"))) for i in range(50)]  # type: ignore[misc]
    await asyncio.gather(first, *rest)
    assert writer.statistics().mutations == 51
    assert writer.statistics().transactions == 2
    assert len(writer.catalog) == 51


async def test_each_mutation_sees_what_went_before_it_in_its_group(writer: RegistryWriter) -> None:
    answers = await asyncio.gather(
        writer.mutate(lambda draft: draft.register(metadata())),
        writer.mutate(lambda draft: draft.register(metadata())),
        writer.mutate(lambda draft: draft.register(metadata(description="another"))),
        return_exceptions=True,
    )
    assert not isinstance(answers[0], BaseException)
    assert not isinstance(answers[1], BaseException)
    assert (answers[0][1], answers[1][1]) == (True, False)
    assert isinstance(answers[2], ConflictError)


class Slow(Store):
    """A disk that takes as long as the test wants."""

    gate: threading.Event
    entered: threading.Event

    def _commit(self) -> None:
        self.entered.set()
        assert self.gate.wait(10)
        super()._commit()


class Failing(Store):
    """A disk that refuses the commits the test names, with an error of SQLite."""

    error: str | None = None

    def _commit(self) -> None:
        if self.error is not None:
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorname = self.error
            raise error
        super()._commit()


def copy_of(folder: Path) -> Path:
    """The registry's files as they lie on disk now."""
    copy = folder / "copy"
    copy.mkdir()
    for path in folder.glob("r.db*"):
        shutil.copy(path, copy / path.name)
    return copy / "r.db"


@pytest.fixture
def slow() -> type[Slow]:
    class Fresh(Slow):
        gate, entered = threading.Event(), threading.Event()

    return Fresh


async def test_a_change_is_invisible_until_the_disk_has_it(
    tmp_path: Path, slow: type[Slow]
) -> None:
    writer = await RegistryWriter.open(tmp_path / "r.db", make_store=slow)
    answer = writer.submit(lambda draft: draft.register(metadata()))
    await asyncio.get_running_loop().run_in_executor(None, slow.entered.wait)
    assert writer.catalog.names() == ()
    assert not answer.done()
    slow.gate.set()
    await answer
    assert writer.catalog.names() == ("digits",)
    await writer.close()


async def test_a_full_queue_refuses_and_closing_finishes_what_waits(
    tmp_path: Path, slow: type[Slow]
) -> None:
    writer = await RegistryWriter.open(tmp_path / "r.db", make_store=slow, max_waiting=2)
    answers = [writer.submit(lambda draft: draft.register(metadata("a")))]
    await asyncio.get_running_loop().run_in_executor(None, slow.entered.wait)
    answers += [writer.submit(lambda d, n=n: d.register(metadata(n))) for n in "bc"]  # type: ignore[misc]
    with pytest.raises(OverloadedError, match="2 changes wait"):
        writer.submit(lambda draft: draft.register(metadata("d")))
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    with pytest.raises(StoppingError):
        await writer.mutate(lambda draft: draft.register(metadata("e")))
    slow.gate.set()
    await asyncio.gather(closing, *answers)
    assert writer.catalog.names() == ("a", "b", "c")


async def test_a_mutation_whose_caller_went_away_before_its_turn_is_dropped(
    tmp_path: Path, slow: type[Slow]
) -> None:
    writer = await RegistryWriter.open(tmp_path / "r.db", make_store=slow)
    first = writer.submit(lambda draft: draft.register(metadata("a")))
    await asyncio.get_running_loop().run_in_executor(None, slow.entered.wait)
    first.cancel()  # too late: its transaction is under way
    writer.submit(lambda draft: draft.register(metadata("b"))).cancel()
    last = writer.submit(lambda draft: draft.register(metadata("c")))
    slow.gate.set()
    await last
    assert writer.catalog.names() == ("a", "c")
    await writer.close()


async def test_a_full_disk_fails_the_change_and_a_later_one_succeeds(tmp_path: Path) -> None:
    writer = await RegistryWriter.open(tmp_path / "r.db", make_store=Failing)
    store = writer._store
    assert isinstance(store, Failing)
    store.error = "SQLITE_FULL"
    answers = await asyncio.gather(
        writer.mutate(lambda draft: draft.register(metadata("a"))),
        writer.mutate(lambda draft: draft.register(metadata("b"))),
        return_exceptions=True,
    )
    assert all(isinstance(a, StorageError) and "disk is full" in a.message for a in answers)
    assert answers[0] is not answers[1]
    assert writer.catalog.names() == ()
    store.error = None
    await writer.mutate(lambda draft: draft.register(metadata("c")))
    await writer.close()
    again = await RegistryWriter.open(tmp_path / "r.db")
    assert again.catalog.names() == ("c",)
    await again.close()


@pytest.mark.parametrize("error", ["SQLITE_IOERR_FSYNC", "SQLITE_IOERR_WRITE", "SQLITE_CORRUPT"])
async def test_after_a_failed_fsync_nothing_is_written_until_a_restart(
    tmp_path: Path, error: str
) -> None:
    writer = await RegistryWriter.open(tmp_path / "r.db", make_store=Failing)
    await writer.mutate(lambda draft: draft.register(metadata("a")))
    store = writer._store
    assert isinstance(store, Failing)
    store.error = error
    with pytest.raises(StorageError):
        await writer.mutate(lambda draft: draft.register(metadata("b")))
    store.error = None
    with pytest.raises(StorageError, match="read-only since its disk failed"):
        await writer.mutate(lambda draft: draft.register(metadata("c")))
    assert writer.catalog.version("a", "1.0").state == "registered"
    await writer.close()
    # The file stays open until the process ends; what a restart would find is a copy of it.
    again = await RegistryWriter.open(copy_of(tmp_path))
    assert again.catalog.names() == ("a",)
    await again.mutate(lambda draft: draft.register(metadata("b")))
    await again.close()


async def test_a_defect_in_the_store_answers_everyone_and_the_writer_lives(tmp_path: Path) -> None:
    class Defective(Store):
        broken = True

        def apply(self, writes: Writes) -> None:
            if self.broken:
                raise ZeroDivisionError
            super().apply(writes)

    writer = await RegistryWriter.open(tmp_path / "r.db", make_store=Defective)
    with pytest.raises(InternalError, match="was not made"):
        await writer.mutate(lambda draft: draft.register(metadata()))
    Defective.broken = False
    await writer.mutate(lambda draft: draft.register(metadata()))
    await writer.close()


async def test_a_second_writer_on_the_same_file_is_refused(
    writer: RegistryWriter, tmp_path: Path
) -> None:
    with pytest.raises(ConflictError, match="in use by another server"):
        await RegistryWriter.open(tmp_path / "registry.db")


async def test_its_repr_tells_its_state(writer: RegistryWriter) -> None:
    await writer.mutate(add_ready)
    text = "<RegistryWriter open: 0 waiting, 1 transactions, <Catalog of 1 models>>"
    assert repr(writer) == text
