"""When the ring changes each data set follows it for itself, and whoever reads goes on."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from aiaas_async.data.dataset import Dataset
from aiaas_async.data.library import Library
from aiaas_async.data.move import prepare_move
from aiaas_async.data.schema import DatasetSpec
from aiaas_async.errors import ConflictError, CorruptError, StorageError
from aiaas_async.ring.hashring import Ring
from tests.data.build import BODY, columns, content, ring_of

KEYS = [f"k{i}" for i in range(50)]
EXPECTED = dict(zip(KEYS, range(50), strict=True))
JOINED = {"node-0", "node-1", "node-2"}


def filled(folder: Path, *names: str) -> Library:
    """A library on two nodes with data sets of 50 items."""
    library = Library(folder, ring_of(2))
    for name in names:
        library.declare(name, BODY)[0].put(KEYS, columns(list(range(50))))
    return library


def nodes_of(dataset: Dataset) -> set[str]:
    return {node for node, facts in dataset.placement()["nodes"].items() if facts["rows"]}


def test_one_placed_under_another_secret_keeps_none_of_the_others_from_following(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path / "here", "a", "z")
    elsewhere = Library(tmp_path / "there", Ring(["node-0", "node-1"], b"x" * 16, 16))
    foreign, _ = elsewhere.declare("foreign", BODY)
    shutil.copytree(foreign.folder, tmp_path / "here" / foreign.folder.name)
    library = Library(tmp_path / "here", ring_of(2))
    assert library.follow(ring_of(3)) > 0
    assert "data set foreign could not follow the ring: data set foreign was placed" in caplog.text
    later, _ = library.declare("later", BODY)
    assert later.placement()["nodes"].keys() == JOINED
    assert [nodes_of(library.get(name)) for name in "az"] == [JOINED, JOINED]
    with pytest.raises(ConflictError, match="another secret"):
        library.get("foreign")


def test_one_that_turns_out_damaged_is_told_when_all_others_have_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path, "a", "b", "c")
    again = Library(tmp_path, ring_of(2))
    for path in again.get("b").folder.glob("*/c0.bin"):
        path.unlink()
    with pytest.raises(CorruptError, match=r"has no c0\.bin") as caught:
        again.follow(ring_of(3))
    assert "data set b could not follow the ring: shard" in caplog.text
    assert [nodes_of(again.get(name)) for name in "ac"] == [JOINED, JOINED]
    assert again.declare("later", BODY)[0].placement()["nodes"].keys() == JOINED
    assert caught.value.details["copies"] == sum(
        again.get(name).placement()["nodes"]["node-2"]["rows"] for name in "ac"
    )


def test_one_that_the_disk_has_no_room_for_is_read_where_it_is_and_follows_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = filled(tmp_path, "a", "b", "c")
    rebalance = Dataset.rebalance

    def full(dataset: Dataset, ring: Ring) -> int:
        if dataset.spec.name == "a":
            raise StorageError("no space")
        return rebalance(dataset, ring)

    with monkeypatch.context() as patched:
        patched.setattr(Dataset, "rebalance", full)
        with pytest.raises(StorageError, match="no space"):
            library.follow(ring_of(3))
    assert [nodes_of(library.get(name)) for name in "bc"] == [JOINED, JOINED]
    assert content(library.get("a")) == EXPECTED
    library.follow(ring_of(3))
    assert nodes_of(library.get("a")) == JOINED


def test_a_defect_met_with_one_keeps_none_of_the_others_from_following(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, "a", "b")
    library, opened = Library(tmp_path, ring_of(2)), Dataset.open

    def failing(folder: Path, ring: Ring) -> Dataset:
        if folder.name == library.specs()[0].id:
            raise PermissionError(13, "Permission denied")
        return opened(folder, ring)

    with monkeypatch.context() as patched:
        patched.setattr(Dataset, "open", failing)
        with pytest.raises(PermissionError):
            library.follow(ring_of(3))
    assert [nodes_of(library.get(name)) for name in "ab"] == [JOINED, JOINED]


class Held:
    """Holds the first move of items where it has begun, until `go_on`."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = Event(), Event()
        patched.setattr("aiaas_async.data.dataset.prepare_move", self._move)

    def _move(self, *given: Any) -> int:
        if not self.begun.is_set():
            self.begun.set()
            assert self.go_on.wait(10)
        return prepare_move(*given)


def test_while_items_move_they_and_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, held = filled(tmp_path, "old", "other"), Held(monkeypatch)
    old = library.get("old")
    with ThreadPoolExecutor(2) as threads:
        following = threads.submit(library.follow, ring_of(3))
        assert held.begun.wait(10)
        for name in ("old", "other"):
            dataset = threads.submit(library.get, name).result(10)
            assert content(dataset) == EXPECTED
            assert dataset.count == 50
            assert [int(dataset.get(key)["label"]) for key in KEYS] == list(range(50))
            assert dataset.page(None, 50).keys == KEYS
        new, _ = threads.submit(library.declare, "new", BODY).result(10)
        assert not following.done()
        held.go_on.set()
        following.result(10)
    for each in (old, new):
        assert each.placement()["nodes"].keys() == JOINED


def test_while_one_is_opened_and_its_items_move_others_are_read_and_it_is_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, "old", "other")
    library = Library(tmp_path, ring_of(3))
    other, held = library.get("other"), Held(monkeypatch)
    with ThreadPoolExecutor(3) as threads:
        opening = [threads.submit(library.get, "old") for _ in range(2)]
        assert held.begun.wait(10)
        assert threads.submit(library.get, "other").result(10) is other
        assert [spec.name for spec in threads.submit(library.specs).result(10)] == ["old", "other"]
        assert not any(each.done() for each in opening)
        held.go_on.set()
        first, second = (each.result(10) for each in opening)
    assert first is second
    assert content(first) == EXPECTED
    assert nodes_of(first) == JOINED


def test_one_that_is_opened_while_the_ring_changes_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, "old")
    library, opened, rings = Library(tmp_path, ring_of(2)), Dataset.open, [ring_of(3)]

    def late(folder: Path, ring: Ring) -> Dataset:
        dataset = opened(folder, ring)
        if rings:
            library._ring = rings.pop()
        return dataset

    monkeypatch.setattr(Dataset, "open", late)
    assert nodes_of(library.get("old")) == JOINED


def test_one_that_is_created_while_the_ring_changes_follows_it_and_others_are_looked_at_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, made, rebalance = Library(tmp_path, ring_of(1)), Dataset.create, Dataset.rebalance
    rings = [ring_of(2), ring_of(3)]

    def late(folder: Path, spec: DatasetSpec, ring: Ring) -> Dataset:
        library._ring = rings.pop(0)
        return made(folder, spec, ring)

    def moves(dataset: Dataset, ring: Ring) -> int:
        assert threads.submit(library.specs).result(5) == []
        if rings:
            library._ring = rings.pop(0)
        return rebalance(dataset, ring)

    monkeypatch.setattr(Dataset, "create", late)
    monkeypatch.setattr(Dataset, "rebalance", moves)
    with ThreadPoolExecutor(1) as threads:
        dataset, created = library.declare("new", BODY)
    assert created
    assert library.get("new") is dataset
    assert dataset.placement()["nodes"].keys() == JOINED


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("then", ["put", "delete", "compact", "follow", "restart"])
@pytest.mark.parametrize(("replication", "before"), [(1, 2), (2, 1), (2, 3)])
def test_one_that_a_full_disk_keeps_from_moving_at_a_restart_is_read_and_moves_later(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    replication: int,
    before: int,
    then: str,
) -> None:
    first, _ = Library(tmp_path, ring_of(before)).declare("a", {**BODY, "replication": replication})
    first.put(KEYS, columns(list(range(50))))
    library = Library(tmp_path, ring_of(4))
    with monkeypatch.context() as patched:
        patched.setattr("aiaas_async.data.files._write", full)
        dataset = library.get("a")
        assert "data set a: items are read where they are" in caplog.text
        assert "No space left on device" in caplog.text
        assert content(dataset) == EXPECTED
        assert dataset.count == 50
        assert [int(dataset.get(key)["label"]) for key in KEYS] == list(range(50))
        for change in (lambda: dataset.put(["k1"], columns([1])), lambda: dataset.delete(["k1"])):
            with pytest.raises(StorageError, match="No space left on device"):
                change()
    if then == "put":
        assert dataset.put(KEYS[:9], columns(list(range(9)))).replaced == 9
    elif then == "delete":
        assert dataset.delete(KEYS[:9]) == 9
        dataset.put(KEYS[:9], columns(list(range(9))))
    elif then == "compact":
        dataset.compact()
    elif then == "follow":
        library.follow(ring_of(4))
    again = Library(tmp_path, ring_of(4)).get("a")
    again.verify()
    for each in (again, dataset) if then != "restart" else (again,):
        assert content(each) == EXPECTED
        assert each.count == 50
        assert sum(facts["rows"] for facts in each.placement()["nodes"].values()) == (
            50 * replication
        )
        assert nodes_of(each) == {"node-0", "node-1", "node-2", "node-3"}
