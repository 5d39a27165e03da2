"""Compaction gives back what no longer counts, and costs no item, whatever fails and whoever
reads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from aiaas_async.data import layout as module
from aiaas_async.data.dataset import Dataset
from aiaas_async.data.mapped import map_rows
from aiaas_async.errors import StorageError
from tests.data.build import columns, content, new, ring_of

KEYS = [f"k{i}" for i in range(300)]
LEFT = {f"k{i}": 1000 + i if i < 100 else i for i in range(250)}


def wasteful(folder: Path, nodes: int = 3) -> Dataset:
    """Of 300 items 100 were replaced and 50 deleted; `LEFT` is what there is."""
    dataset = new(folder, nodes)
    dataset.put(KEYS, columns(list(range(300))))
    dataset.delete(KEYS[250:])
    dataset.put(KEYS[:100], columns(list(range(1000, 1100))))
    return dataset


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*"))


def reclaimed() -> None:
    """Wait until folders that nobody reads any more are gone."""
    for thread in threading.enumerate():
        if thread.name == "reclaim":
            thread.join(10)


def test_bytes_of_replaced_and_deleted_items_are_given_back(tmp_path: Path) -> None:
    dataset = wasteful(tmp_path)
    digest, before = dataset.digest(), on_disk(tmp_path)
    assert dataset.placement()["disk_bytes"] == before
    assert dataset.placement()["reclaimable_bytes"] == 150 * 14
    freed = dataset.compact()
    reclaimed()
    assert on_disk(tmp_path) == before - freed == dataset.placement()["disk_bytes"]
    assert freed > 150 * 14
    assert dataset.placement()["reclaimable_bytes"] == 0
    assert dataset.compact() == 0
    for again in (dataset, Dataset.open(tmp_path, ring_of(3))):
        again.verify()
        assert content(again) == LEFT
        assert again.digest() == digest
        assert again.get("k5")["label"] == 1005


def test_a_compacted_data_set_goes_on_as_any_other(tmp_path: Path) -> None:
    dataset = wasteful(tmp_path)
    dataset.compact()
    assert dataset.put(["k5", "new"], columns([7, 8])).replaced == 1
    dataset.rebalance(ring_of(4))
    dataset.rebalance(ring_of(2))
    dataset.compact()
    reclaimed()
    expected = {**{k: v for k, v in LEFT.items() if k != "k5"}, "k5": 7, "new": 8}
    assert content(dataset) == expected
    assert content(Dataset.open(tmp_path, ring_of(2))) == expected


def test_who_reads_reads_on_and_the_files_go_with_the_last_reader(tmp_path: Path) -> None:
    dataset = wasteful(tmp_path, nodes=1)
    source = dataset.source()
    (extent,) = source.extents(np.arange(len(source)) < 250).values()
    dataset.compact()
    first, last, picked = extent.span(0, 150)
    assert picked is None
    label = map_rows(extent.files["label"], source.columns["label"], first, last)
    assert label.tolist() == list(range(100, 250)), "a worker opens the file by its name"
    assert len(list(tmp_path.glob("*/log"))) == 2
    del source, label
    reclaimed()
    assert len(list(tmp_path.glob("*/log"))) == 1
    assert content(dataset) == LEFT


def test_reads_run_while_it_is_compacted_again_and_again(tmp_path: Path) -> None:
    dataset = wasteful(tmp_path)
    stop = threading.Event()

    def read() -> int:
        rounds = 0
        while not stop.is_set() or not rounds:
            assert content(dataset) == LEFT
            assert dataset.get("k5")["label"] == 1005
            rounds += 1
        return rounds

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for _ in range(10):
                dataset.put(["k249"], columns([249]))
                dataset.compact()
        finally:
            stop.set()
        assert all(reader.result() >= 1 for reader in readers)
    reclaimed()


def save_nothing(save: Callable[..., None]) -> Callable[..., None]:
    def failing(*_: object) -> None:
        raise StorageError("no space")

    del save
    return failing


def save_and_fail(save: Callable[..., None]) -> Callable[..., None]:
    def failing(*given: object) -> None:
        save(*given)
        raise StorageError("the disk does not say whether it has it")

    return failing


@pytest.mark.parametrize("how", [save_nothing, save_and_fail])
@pytest.mark.parametrize("again", ["put", "reopen"])
def test_whatever_became_of_the_layout_no_item_is_lost(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: Callable[[Callable[..., None]], Callable[..., None]],
    again: str,
) -> None:
    dataset = wasteful(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(module.Layout, "save", how(module.Layout.save))
        with pytest.raises(StorageError):
            dataset.compact()
        assert content(dataset) == LEFT
        with pytest.raises(StorageError):
            dataset.put(["k5"], columns([9]))
    expected = LEFT
    if again == "put":  # the layout must be settled before anything else is written
        dataset.put(["new"], columns([9]))
        expected = {**LEFT, "new": 9}
    reopened = Dataset.open(tmp_path, ring_of(3))
    reopened.verify()
    assert content(reopened) == expected
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3


def test_a_compaction_that_cannot_write_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = wasteful(tmp_path)
    before = on_disk(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(
            dataset._commits, "write", lambda *_: (_ for _ in ()).throw(StorageError("full"))
        )
        with pytest.raises(StorageError):
            dataset.compact()
    assert on_disk(tmp_path) == before
    assert content(dataset) == LEFT
    dataset.compact()
    reclaimed()
    assert content(Dataset.open(tmp_path, ring_of(3))) == LEFT


def test_a_compaction_that_fails_holds_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = wasteful(tmp_path)

    def failing(_: int) -> None:
        raise OSError(28, "No space left on device")

    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patched:
        patched.setattr("aiaas_async.data.files.os.fsync", failing)
        for _ in range(3):
            with pytest.raises(StorageError, match="No space left"):
                dataset.compact()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    dataset.compact()
    reclaimed()
    assert content(dataset) == LEFT
