"""With two copies of each item a node lost for good costs nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aiaas_async.data import layout as module
from aiaas_async.data.dataset import Dataset
from aiaas_async.data.layout import load, shard_folder
from aiaas_async.errors import CorruptError, StorageError
from aiaas_async.ring.hashring import Ring
from tests.data.build import SECRET, columns, content, new, ring_of

KEYS = [f"k{i}" for i in range(200)]
EXPECTED = dict(zip(KEYS, range(200), strict=True))


def gone(shard: Path) -> None:
    shutil.rmtree(shard)


def log_damaged(shard: Path) -> None:
    raw = bytearray((shard / "log").read_bytes())
    raw[100] ^= 1
    (shard / "log").write_bytes(raw)


def values_cut(shard: Path) -> None:
    (shard / "c0.bin").write_bytes(b"")


def filled(folder: Path, replication: int, nodes: int = 3) -> Path:
    """Where the shard of node-1 lies, of a data set of 200 items."""
    new(folder, nodes, replication).put(KEYS, columns(list(range(200))))
    return folder / shard_folder("node-1")


@pytest.mark.parametrize("lose", [gone, log_damaged, values_cut])
def test_a_lost_node_is_copied_anew_from_the_others(
    tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    lose(filled(tmp_path, 2))
    dataset = Dataset.open(tmp_path, ring_of(3))
    assert list(dataset.lost) == ["node-1"]
    for again in (dataset, Dataset.open(tmp_path, ring_of(3))):
        assert content(again) == EXPECTED
        again.verify()
        assert sum(node["rows"] for node in again.placement()["nodes"].values()) == 400
        assert again.put(["k5"], columns([5])).replaced == 1
    assert Dataset.open(tmp_path, ring_of(3)).lost == {}


def test_two_nodes_may_be_lost_one_after_the_other(tmp_path: Path) -> None:
    gone(filled(tmp_path, 2))
    Dataset.open(tmp_path, ring_of(3))
    gone(tmp_path / load(tmp_path / "layout.json").shards["node-2"])
    assert content(Dataset.open(tmp_path, ring_of(3))) == EXPECTED


def test_a_node_that_is_lost_and_leaves_the_ring_costs_nothing_either(tmp_path: Path) -> None:
    gone(filled(tmp_path, 2, nodes=2))
    dataset = Dataset.open(tmp_path, ring_of(1))
    assert content(dataset) == EXPECTED


def test_without_another_copy_the_loss_is_told_and_nothing_is_made_up(tmp_path: Path) -> None:
    gone(filled(tmp_path / "one", 1))
    with pytest.raises(CorruptError, match="has no log"):
        Dataset.open(tmp_path / "one", ring_of(3))
    gone(filled(tmp_path / "two", 2))
    gone(tmp_path / "two" / shard_folder("node-0"))
    with pytest.raises(CorruptError, match="has no log"):
        Dataset.open(tmp_path / "two", ring_of(3))


def full(*_: object) -> int:
    raise StorageError("no space")


def test_copies_that_a_full_disk_kept_from_being_made_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = new(tmp_path, 1, 2)
    dataset.put(KEYS, columns(list(range(200))))
    with monkeypatch.context() as patched:
        patched.setattr("aiaas_async.data.dataset.prepare_move", full)
        with pytest.raises(StorageError):
            dataset.rebalance(ring_of(2))
    log_damaged(tmp_path / shard_folder("node-0"))
    with pytest.raises(CorruptError, match="block 0 is damaged"):
        Dataset.open(tmp_path, ring_of(2))


def test_a_lost_node_that_a_full_disk_kept_from_being_copied_anew_stays_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone(filled(tmp_path, 2, nodes=2))
    with monkeypatch.context() as patched:
        patched.setattr("aiaas_async.data.dataset.prepare_move", full)
        for _ in range(2):
            assert content(Dataset.open(tmp_path, ring_of(2))) == EXPECTED
    values_cut(tmp_path / shard_folder("node-0"))
    with pytest.raises(CorruptError, match="column image has 0 of"):
        Dataset.open(tmp_path, ring_of(2))


def as_earlier_releases_had_it(layout: Path, *, moving: bool) -> None:
    facts = json.loads(layout.read_text())
    del facts["copies"]
    layout.write_text(json.dumps(facts | ({"fingerprint": ""} if moving else {})))


def test_a_layout_of_an_earlier_release_says_how_many_copies_there_are_unless_items_moved(
    tmp_path: Path,
) -> None:
    for name in ("at rest", "moving"):
        gone(filled(tmp_path / name, 2))
        as_earlier_releases_had_it(tmp_path / name / "layout.json", moving=name == "moving")
    assert content(Dataset.open(tmp_path / "at rest", ring_of(3))) == EXPECTED
    with pytest.raises(CorruptError, match="has no log"):
        Dataset.open(tmp_path / "moving", ring_of(3))


@pytest.mark.parametrize("after", [0, 1])
def test_copying_anew_may_itself_be_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    gone(filled(tmp_path, 2))
    saves: list[Path] = []
    save = module.Layout.save

    def fail_later(layout: module.Layout, path: Path) -> None:
        saves.append(path)
        if len(saves) > after:
            raise StorageError("power failed")
        save(layout, path)

    with monkeypatch.context() as patched:
        patched.setattr(module.Layout, "save", fail_later)
        dataset = Dataset.open(tmp_path, ring_of(3))
    assert dataset.unmoved is not None
    assert content(dataset) == EXPECTED
    assert [dataset.get(key)["label"] for key in KEYS] == list(range(200))
    dataset = Dataset.open(tmp_path, ring_of(3))
    assert dataset.unmoved is None
    assert content(dataset) == EXPECTED
    assert sum(node["rows"] for node in dataset.placement()["nodes"].values()) == 400


def test_one_item_is_read_from_its_other_copy_where_the_first_is_damaged(tmp_path: Path) -> None:
    dataset = new(tmp_path, 3, 2)
    dataset.put(KEYS, columns(list(range(200))))
    values = tmp_path / shard_folder("node-1") / "c1.bin"
    values.write_bytes(bytes(len(values.read_bytes())))
    for lost in (values, values.with_name("log")):
        for key, label in EXPECTED.items():
            assert dataset.get(key)["label"] == label
        lost.unlink()


def rotten(folder: Path, replication: int) -> Dataset:
    """200 items of two blocks; a bit of the first value on node-0, whose copies are read first, is
    another than it was."""
    dataset = new(folder, 2, replication)
    for part in (slice(0, 100), slice(100, 200)):
        dataset.put(KEYS[part], columns(list(range(200))[part]))
    path = folder / shard_folder("node-0") / "c1.bin"
    raw = bytearray(path.read_bytes())
    raw[0] ^= 0x40
    path.write_bytes(raw)
    return Dataset.open(folder, ring_of(2))


def test_pages_take_the_whole_copy_where_another_has_rotted(tmp_path: Path) -> None:
    dataset = rotten(tmp_path, 2)
    for page in (dataset.page(None, 200), dataset.range(0, 200)):
        assert dict(zip(page.keys, page.columns["label"].tolist(), strict=True)) == EXPECTED


def without_first(nodes: int) -> Ring:
    return Ring([f"node-{i}" for i in range(1, nodes)], SECRET, 16)


def test_a_move_takes_the_whole_copy_where_another_has_rotted(tmp_path: Path) -> None:
    dataset = rotten(tmp_path, 2)
    assert dataset.rebalance(ring_of(3)) > 0
    assert dataset.rebalance(without_first(3)) > 0
    assert content(dataset) == EXPECTED
    dataset.verify()


def test_a_move_takes_what_has_rotted_in_every_copy_as_it_is_and_it_stays_known_as_such(
    tmp_path: Path,
) -> None:
    dataset = rotten(tmp_path, 1)
    assert dataset.rebalance(without_first(3)) > 0
    with pytest.raises(CorruptError, match="fail their checksum") as caught:
        dataset.page(None, 200)
    wrong = caught.value.details["key"]
    assert [dataset.get(key)["label"] for key in KEYS if key != wrong] == [
        EXPECTED[key] for key in KEYS if key != wrong
    ]


def test_pages_do_not_show_what_has_rotted_but_name_it_and_it_can_be_put_again(
    tmp_path: Path,
) -> None:
    dataset = rotten(tmp_path, 1)
    told = r"data set digits: the values of item 'k\d+' fail their checksum, .* put it again"
    with pytest.raises(CorruptError, match=told) as caught:
        dataset.page(None, 200)
    key = caught.value.details["key"]
    with pytest.raises(CorruptError, match=told):
        dataset.range(EXPECTED[key], EXPECTED[key] + 1)
    assert dataset.range(EXPECTED[key] + 1, 200).keys == KEYS[EXPECTED[key] + 1 :]
    dataset.put([key], columns([EXPECTED[key]]))
    page = dataset.page(None, 200)
    assert dict(zip(page.keys, page.columns["label"].tolist(), strict=True)) == EXPECTED


def test_a_range_is_cut_to_what_there_is(tmp_path: Path) -> None:
    dataset = new(tmp_path)
    dataset.put(KEYS, columns(list(range(200))))
    dataset.delete(["k0"])
    assert dataset.range(0, 3).keys == ["k1", "k2", "k3"]
    assert dataset.range(197, 500).columns["label"].tolist() == [198, 199]
    assert dataset.range(500, 600).keys == dataset.range(4, 4).keys == []
    following = dataset.range(0, 3).next
    assert dataset.page(following, 2).keys == ["k4", "k5"]
    assert dataset.range(0, 199).next is None


def test_copies_are_one_for_each_node_at_most_and_grow_as_nodes_join(tmp_path: Path) -> None:
    dataset = new(tmp_path, 2, 3)
    dataset.put(KEYS, columns(list(range(200))))
    assert dataset.copies == 2
    assert dataset.rebalance(ring_of(3)) == 200
    for again in (dataset, Dataset.open(tmp_path, ring_of(3))):
        assert again.copies == 3
        assert [node["rows"] for node in again.placement()["nodes"].values()] == [200] * 3
        assert content(again) == EXPECTED
    dataset.rebalance(ring_of(4))
    assert dataset.copies == 3
