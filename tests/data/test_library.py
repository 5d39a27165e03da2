"""Data sets are found by name, created once, and survive a restart."""

import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from aiaas_async.data import layout as layouts
from aiaas_async.data.dataset import Dataset
from aiaas_async.data.layout import shard_folder
from aiaas_async.data.library import Library
from aiaas_async.data.reports import PutReport
from aiaas_async.errors import ConflictError, CorruptError, NotFoundError, StorageError
from tests.data.build import BODY, columns, content, ring_of
from tests.data.contested import Contested


def test_declaring_twice_finds_the_same_and_other_columns_conflict(tmp_path: Path) -> None:
    library = Library(tmp_path, ring_of(2))
    first, created = library.declare("digits", BODY)
    again, created_again = library.declare("digits", BODY)
    assert (created, created_again) == (True, False)
    assert again is first
    with pytest.raises(ConflictError, match="other columns"):
        library.declare("digits", {**BODY, "replication": 2})
    assert [spec.name for spec in library.specs()] == ["digits"]
    assert repr(library) == "<Library of 1 data sets, 1 open>"


def test_one_is_open_once_it_was_asked_for(tmp_path: Path) -> None:
    declared, _ = Library(tmp_path, ring_of(2)).declare("digits", BODY)
    library = Library(tmp_path, ring_of(2))
    assert library.opened("digits") is library.opened("digist") is None
    found = library.get("digits")
    assert library.opened("digits") is found is not declared


def test_items_are_there_after_a_restart_on_other_nodes(tmp_path: Path) -> None:
    library = Library(tmp_path, ring_of(2))
    library.declare("digits", BODY)[0].put(["a", "b"], columns([1, 2]))
    assert library.follow(ring_of(3)) >= 0
    again = Library(tmp_path, ring_of(1))
    assert content(again.get("digits")) == {"a": 1, "b": 2}


def test_user_names_never_reach_the_disk(tmp_path: Path) -> None:
    Library(tmp_path, ring_of(2)).declare("my-secret-name", BODY)
    assert not any("secret" in str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    assert not any("node-" in str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))


def test_a_name_that_is_not_there_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    library = Library(tmp_path, ring_of(1))
    with pytest.raises(NotFoundError, match="no data set is called 'digits'; there are 0"):
        library.get("digits")
    library.declare("digits", BODY)
    for refused in (library.get, library.delete):
        with pytest.raises(NotFoundError, match=r"called 'digist'; did you mean digits\?"):
            refused("digist")


def test_a_deleted_data_set_is_gone_and_its_name_free(tmp_path: Path) -> None:
    library = Library(tmp_path, ring_of(2))
    library.declare("digits", BODY)[0].put(["a"], columns([1]))
    library.delete("digits")
    assert list(tmp_path.iterdir()) == []
    for forget in (library.get, library.delete):
        with pytest.raises(NotFoundError, match="'digits'"):
            forget("digits")
    assert library.declare("digits", BODY)[1]


def test_an_item_that_comes_while_a_data_set_is_deleted_as_empty_is_refused_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(tmp_path, ring_of(2))
    dataset, _ = library.declare("digits", BODY)
    arrived, putting = Event(), list[Future[PutReport]]()
    monkeypatch.setattr(dataset, "_changing", Contested(arrived))

    def count_and_let_one_in(self: Dataset) -> int:
        if not putting:
            putting.append(pool.submit(dataset.put, ["a"], columns([1])))
            putting[0].add_done_callback(lambda _: arrived.set())
            assert arrived.wait(10)
        return 0

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(Dataset, "count", property(count_and_let_one_in))
        library.delete("digits", only_empty=True)
    with pytest.raises(NotFoundError, match="digits was deleted meanwhile"):
        putting[0].result()


@pytest.mark.parametrize("only_empty", [True, False])
def test_nothing_changes_a_data_set_that_is_deleted(tmp_path: Path, only_empty: bool) -> None:
    library = Library(tmp_path, ring_of(2))
    dataset, _ = library.declare("digits", BODY)
    library.delete("digits", only_empty=only_empty)
    changes: list[Callable[[], object]] = [
        lambda: dataset.put(["a"], columns([1])),
        lambda: dataset.delete(["a"]),
        lambda: dataset.rebalance(ring_of(3)),
        dataset.compact,
    ]
    for change in changes:
        with pytest.raises(NotFoundError, match="digits was deleted meanwhile"):
            change()
    assert list(tmp_path.iterdir()) == []


def test_who_reads_a_data_set_that_is_deleted_is_told_so_and_of_no_damage(tmp_path: Path) -> None:
    library = Library(tmp_path, ring_of(2))
    dataset, _ = library.declare("digits", BODY)
    dataset.put(["a"], columns([1]))
    library.delete("digits")
    reads: list[Callable[[], object]] = [
        lambda: dataset.get("a"),
        lambda: dataset.page(None, 5),
        lambda: dataset.range(0, 5),
        dataset.source,
        dataset.digest,
    ]
    for read in reads:
        with pytest.raises(NotFoundError, match="digits was deleted meanwhile"):
            read()


def test_files_that_somebody_else_removed_are_damage(tmp_path: Path) -> None:
    dataset, _ = Library(tmp_path, ring_of(1)).declare("digits", BODY)
    dataset.put(["a"], columns([1]))
    for name in ("c0.bin", "log"):
        (dataset.folder / shard_folder("node-0") / name).unlink()
        with pytest.raises(CorruptError, match=f"has no {name}: the data set was moved"):
            dataset.get("a")


def test_a_data_set_is_deleted_though_its_last_reader_takes_a_shard_away_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(tmp_path, ring_of(2))
    dataset, _ = library.declare("digits", BODY)
    dataset.put([f"k{i}" for i in range(20)], columns(list(range(20))))
    remove, shard = shutil.rmtree, dataset.folder / shard_folder("node-1")
    assert shard.exists()

    def beside_another(folder: Path) -> None:
        if shard.exists():
            remove(shard)
            raise FileNotFoundError(2, "No such file or directory", shard.name)
        remove(folder)

    monkeypatch.setattr(shutil, "rmtree", beside_another)
    library.delete("digits")
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_with_items_is_not_deleted_as_empty(tmp_path: Path) -> None:
    library = Library(tmp_path, ring_of(2))
    library.declare("digits", BODY)[0].put(["a"], columns([1]))
    with pytest.raises(ConflictError, match="digits is not empty: it has 1 items"):
        library.delete("digits", only_empty=True)
    assert content(library.get("digits")) == {"a": 1}


def test_a_damaged_data_set_is_refused_and_the_others_serve(tmp_path: Path) -> None:
    library = Library(tmp_path, ring_of(1))
    for name in ("good", "bad", "worse"):
        library.declare(name, BODY)[0].put(["a"], columns([1]))
    ids = {spec.name: spec.id for spec in library.specs()}
    (tmp_path / ids["bad"] / "layout.json").write_bytes(b"{")
    (tmp_path / ids["worse"] / "spec.json").write_bytes(b"{")
    again = Library(tmp_path, ring_of(1))
    assert again.get("good").count == 1
    with pytest.raises(CorruptError, match="layout cannot be read"):
        again.get("bad")
    assert list(again.damaged) == [ids["worse"]]
    again.delete("bad")


def test_a_folder_without_a_spec_is_swept(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    Library(tmp_path, ring_of(1))
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_folder_is_left_alone_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".DS_Store").write_bytes(b"of somebody else")
    (tmp_path / "link").symlink_to(tmp_path)
    library = Library(tmp_path, ring_of(1))
    library.declare("digits", BODY)
    library.follow(ring_of(2))
    assert [record.getMessage() for record in caplog.records] == [
        f"{name} among the data sets is none, and is left alone" for name in (".DS_Store", "link")
    ]
    assert (tmp_path / ".DS_Store").read_bytes() == b"of somebody else"
    assert (tmp_path / "link").is_symlink()


def test_while_one_is_created_others_are_read_and_the_ring_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(tmp_path, ring_of(2))
    library.declare("old", BODY)
    create, waiting, go_on = Dataset.create, Event(), Event()

    def slow(*args: Any) -> Dataset:
        dataset = create(*args)
        waiting.set()
        assert go_on.wait(10)
        return dataset

    monkeypatch.setattr(Dataset, "create", slow)
    with ThreadPoolExecutor(2) as threads:
        creating = threads.submit(library.declare, "new", BODY)
        assert waiting.wait(10)
        assert threads.submit(library.get, "old").result(10).count == 0
        library.follow(ring_of(3))
        go_on.set()
        dataset, created = creating.result(10)
    assert created
    assert set(dataset.placement()["nodes"]) == {"node-0", "node-1", "node-2"}
    assert library.get("new") is dataset


def test_while_one_is_deleted_that_is_being_written_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(tmp_path, ring_of(2))
    old, _ = library.declare("old", BODY)
    library.declare("other", BODY)
    checked, writing, go_on = Dataset._settle, Event(), Event()

    def slow(dataset: Dataset) -> None:
        checked(dataset)
        writing.set()
        assert go_on.wait(10)

    with ThreadPoolExecutor(3) as threads:
        with monkeypatch.context() as patched:
            patched.setattr(Dataset, "_settle", slow)
            putting = threads.submit(old.put, ["a"], columns([1]))
            assert writing.wait(10)
        deleting = threads.submit(library.delete, "old")
        assert threads.submit(library.get, "other").result(10).count == 0
        assert not deleting.done()
        go_on.set()
        assert putting.result(10).written == 1
        deleting.result(10)
    with pytest.raises(NotFoundError):
        library.get("old")


def test_while_one_that_nobody_opened_is_deleted_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("old", "other"):
        Library(tmp_path, ring_of(2)).declare(name, BODY)
    library = Library(tmp_path, ring_of(2))
    remove, removing, go_on, waited_for = layouts.remove, Event(), Event(), Event()

    def slow(folder: Path) -> None:
        removing.set()
        assert go_on.wait(10)
        remove(folder)

    monkeypatch.setattr(layouts, "remove", slow)
    monkeypatch.setattr(library._entries["old"], "lock", Contested(waited_for))
    with ThreadPoolExecutor(3) as threads:
        deleting = threads.submit(library.delete, "old")
        assert removing.wait(10)
        assert threads.submit(library.get, "other").result(10).count == 0
        reading = threads.submit(library.get, "old")
        assert waited_for.wait(10)
        go_on.set()
        deleting.result(10)
        with pytest.raises(NotFoundError, match="old was deleted meanwhile"):
            reading.result(10)


def test_a_deletion_that_fails_leaves_a_data_set_that_serves_and_follows_the_ring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(tmp_path, ring_of(2))
    dataset, _ = library.declare("old", BODY)
    dataset.put(["a"], columns([1]))

    def failing(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", failing)
        with pytest.raises(StorageError):
            library.delete("old")
    dataset.put(["b"], columns([2]))
    library.follow(ring_of(3))
    assert content(library.get("old")) == {"a": 1, "b": 2}


def test_one_whose_files_could_not_all_be_removed_is_gone_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(tmp_path, ring_of(2))
    library.declare("old", BODY)

    def failing(_: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("aiaas_async.data.layout.shutil.rmtree", failing)
        with pytest.raises(StorageError):
            library.delete("old")
    assert library.specs() == []
    assert library.follow(ring_of(3)) == 0
    assert Library(tmp_path, ring_of(3)).specs() == []


def test_one_that_could_not_be_created_leaves_nothing_for_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(tmp_path, ring_of(2))
    create = Dataset.create

    def late(*args: Any) -> Dataset:
        create(*args)
        raise StorageError("full")

    with monkeypatch.context() as patched:
        patched.setattr(Dataset, "create", late)
        with pytest.raises(StorageError):
            library.declare("new", BODY)
    assert Library(tmp_path, ring_of(2)).specs() == []
    assert library.declare("new", BODY)[1]
