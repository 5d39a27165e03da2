"""A data set keeps what it acknowledged, wherever the ring puts it."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.data import layout as module
from aiaas_async.data import put as module_put
from aiaas_async.data.dataset import Dataset
from aiaas_async.data.files import write_at
from aiaas_async.data.items import table
from aiaas_async.data.keys import Keys
from aiaas_async.data.reports import Known
from aiaas_async.data.shard import Shard
from aiaas_async.errors import (
    ConflictError,
    CorruptError,
    InputError,
    InvalidError,
    NotFoundError,
    StorageError,
)
from aiaas_async.ring.hashring import Ring
from tests.data.build import SECRET, columns, content, new, ring_of
from tests.data.contested import Contested
from tests.folders import in_memory

KEYS = [f"k{i}" for i in range(200)]
LABELS = list(range(200))

keys = st.sampled_from([f"k{i}" for i in range(12)])
put = st.tuples(st.just("put"), st.lists(st.tuples(keys, st.integers(0, 999)), max_size=6))
delete = st.tuples(st.just("delete"), st.lists(keys, max_size=4))
reopen = st.tuples(st.just("reopen"), st.integers(1, 4))
move = st.tuples(st.just("move"), st.integers(1, 4))
compact = st.tuples(st.just("compact"), st.none())


@given(st.lists(st.one_of(put, delete, reopen, move, compact), max_size=12), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_a_data_set_is_a_dict_in_order_of_arrival(
    steps: list[tuple[str, Any]], replication: int
) -> None:
    with in_memory() as folder:
        model: dict[str, int] = {}
        dataset = new(folder / "d", 2, replication)
        for step, given_ in steps:
            if step == "put":
                for key, label in given_:
                    model.pop(key, None)
                    model[key] = label
                dataset.put([k for k, _ in given_], columns([v for _, v in given_]))
            elif step == "delete":
                known = sum(model.pop(key, None) is not None for key in given_)
                assert dataset.delete(given_) == known
            elif step == "reopen":
                dataset = Dataset.open(folder / "d", ring_of(given_))
            elif step == "compact":
                dataset.compact()
                assert dataset.reclaimable_bytes == 0
            else:
                dataset.rebalance(ring_of(given_))
            assert list(content(dataset).items()) == list(model.items())
            assert dataset.count == len(model)
        for key, label in model.items():
            assert dataset.get(key)["label"] == label
        dataset.verify()


def test_put_reports_what_was_written_replaced_and_repeated(tmp_path: Path) -> None:
    dataset = new(tmp_path)
    first = dataset.put(["a", "b", "a"], columns([1, 2, 3]))
    assert (first.written, first.replaced, first.repeated) == (2, 0, 1)
    second = dataset.put(["b", "c"], columns([4, 5]))
    assert (second.written, second.replaced, second.repeated) == (2, 1, 0)
    assert sum(second.per_node.values()) == 2
    assert content(dataset) == {"a": 3, "b": 4, "c": 5}
    assert dataset.put([], columns([])).written == 0


def test_items_without_keys_get_keys_of_their_content(tmp_path: Path) -> None:
    dataset = new(tmp_path)
    assert dataset.put(None, columns([7, 8, 7])).repeated == 1
    assert dataset.put(None, columns([8])).replaced == 1
    assert dataset.count == 2
    assert all(len(key) == 32 for key in content(dataset))


def test_items_spread_over_the_nodes_and_copies_count_once(tmp_path: Path) -> None:
    dataset = new(tmp_path, nodes=3, replication=2)
    report = dataset.put(KEYS, columns(LABELS))
    assert sum(report.per_node.values()) == 400
    facts = dataset.placement()
    assert [node["bytes"] for node in facts["nodes"].values()] == [
        node["rows"] * 14 for node in facts["nodes"].values()
    ]
    assert 1.0 <= facts["balance"] < 1.6
    assert dataset.count == len(content(dataset)) == 200


def test_order_and_digest_do_not_depend_on_the_number_of_nodes(tmp_path: Path) -> None:
    digests, orders = set(), set()
    for nodes, replication in ((1, 1), (3, 1), (4, 2)):
        dataset = new(tmp_path / f"{nodes}", nodes, replication)
        dataset.put(KEYS, columns(LABELS))
        dataset.put(["k5"], columns([5000]))
        dataset.delete(["k7"])
        digests.add(dataset.digest())
        orders.add(tuple(content(dataset).items()))
    assert len(digests) == len(orders) == 1
    dataset.put(["k5"], columns([5001]))
    assert dataset.digest() not in digests


def test_pages_follow_the_order_of_arrival_and_end(tmp_path: Path) -> None:
    dataset = new(tmp_path)
    dataset.put(KEYS, columns(LABELS))
    found, cursor = [], None
    while True:
        page = dataset.page(cursor, 70)
        found += page.columns["label"].tolist()
        cursor = page.next
        if cursor is None:
            break
    assert found == LABELS
    assert dataset.page(10**18, 5).keys == []
    with pytest.raises(InvalidError, match="limit"):
        dataset.page(None, 0)


def test_a_source_does_not_see_later_changes(tmp_path: Path) -> None:
    dataset = new(tmp_path)
    dataset.put(KEYS, columns(LABELS))
    before = dataset.source()
    dataset.put(["k0"], columns([1234]))
    dataset.delete(["k1"])
    dataset.rebalance(ring_of(4))
    assert before.take(np.array([0, 1, 199]))["label"].tolist() == [0, 1, 199]
    assert len(dataset.source()) == 199


def test_a_join_moves_only_what_the_joiner_takes(tmp_path: Path) -> None:
    dataset = new(tmp_path, nodes=3)
    dataset.put(KEYS, columns(LABELS))
    digest = dataset.digest()
    moved = dataset.rebalance(ring_of(4))
    assert moved == dataset.placement()["nodes"]["node-3"]["rows"]
    assert 0 < moved < 120
    assert dataset.rebalance(ring_of(4)) == 0
    assert dataset.digest() == digest
    assert content(Dataset.open(tmp_path, ring_of(4))) == dict(zip(KEYS, LABELS, strict=True))


def test_a_leave_empties_the_leaver_and_its_folder_goes_at_the_next_open(tmp_path: Path) -> None:
    dataset = new(tmp_path, nodes=3)
    dataset.put(KEYS, columns(LABELS))
    dataset.rebalance(ring_of(2))
    assert set(dataset.placement()["nodes"]) == {"node-0", "node-1"}
    assert dataset.count == 200
    assert sum(path.is_dir() for path in tmp_path.iterdir()) == 3
    assert Dataset.open(tmp_path, ring_of(2)).count == 200
    assert sum(path.is_dir() for path in tmp_path.iterdir()) == 2


def test_a_move_that_was_interrupted_after_its_commit_is_finished_by_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = new(tmp_path, nodes=3)
    dataset.put(KEYS, columns(LABELS))
    real = module.Layout.save

    def fail_at_the_end(layout: module.Layout, path: Path) -> None:
        if layout.fingerprint:
            raise StorageError("power failed")
        real(layout, path)

    with monkeypatch.context() as patched:
        patched.setattr(module.Layout, "save", fail_at_the_end)
        with pytest.raises(StorageError):
            dataset.rebalance(ring_of(4))
    for nodes in (3, 4):
        again = Dataset.open(tmp_path, ring_of(nodes))
        assert content(again) == dict(zip(KEYS, LABELS, strict=True))
        assert again.count == 200


def test_a_put_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = new(tmp_path)
    dataset.put(KEYS[:50], columns(LABELS[:50]))
    with monkeypatch.context() as patched:
        patched.setattr(
            dataset._shards["node-1"],
            "prepare",
            lambda *_: (_ for _ in ()).throw(StorageError("full")),
        )
        with pytest.raises(StorageError):
            dataset.put(KEYS, columns(LABELS))
    assert dataset.count == 50
    assert Dataset.open(tmp_path, ring_of(3)).count == 50
    dataset.put(KEYS[50:60], columns(LABELS[50:60]))
    again = Dataset.open(tmp_path, ring_of(3))
    again.verify()
    assert content(again) == dict(zip(KEYS[:60], LABELS[:60], strict=True))


def test_a_failed_commit_undoes_the_put_on_every_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = new(tmp_path)
    with monkeypatch.context() as patched:

        def land_and_fail(path: Path, data: bytes, offset: int) -> None:
            write_at(path, data, offset)
            raise StorageError("the disk does not say whether it has it")

        patched.setattr("aiaas_async.data.commit.write_at", land_and_fail)
        with pytest.raises(StorageError):
            dataset.put(KEYS, columns(LABELS))
    assert content(dataset) == {}
    with monkeypatch.context() as patched:  # the power fails just before the next commit
        patched.setattr(module_put, "_part", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            dataset.put(["k2"], columns([2]))
    assert content(Dataset.open(tmp_path, ring_of(3))) == {}
    dataset.put(["k1"], columns([1]))
    assert content(Dataset.open(tmp_path, ring_of(3))) == {"k1": 1}


def test_threads_may_put_and_read_at_once(tmp_path: Path) -> None:
    dataset = new(tmp_path)

    def put_and_read(first: int) -> None:
        for label in range(first, first + 10):
            dataset.put([f"k{label}"], columns([label]))
            assert dataset.get(f"k{label}")["label"] == label
            assert f"k{label}" in content(dataset)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put_and_read, range(0, 40, 10)))
    assert sorted(content(dataset).values()) == list(range(40))
    assert content(Dataset.open(tmp_path, ring_of(3))) == content(dataset)


def test_who_counts_while_items_move_counts_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = new(tmp_path, nodes=3)
    dataset.put(KEYS, columns(LABELS))
    apply, looking, arrived = Shard.apply, list[Future[tuple[int, dict[str, Any]]]](), Event()
    monkeypatch.setattr(dataset, "_publishing", Contested(arrived))

    def apply_and_look(shard: Shard) -> None:
        apply(shard)
        if not looking:  # what this one takes, another holds still
            looking.append(pool.submit(lambda: (dataset.count, dataset.placement())))
            looking[0].add_done_callback(lambda _: arrived.set())
            assert arrived.wait(10)

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(Shard, "apply", apply_and_look)
        dataset.rebalance(ring_of(2))
    count, facts = looking[0].result()
    assert count == sum(node["rows"] for node in facts["nodes"].values()) == 200


def test_what_does_not_fit_the_columns_is_refused(tmp_path: Path) -> None:
    dataset = new(tmp_path)
    with pytest.raises(InvalidError, match="keys for 2 items"):
        dataset.put(["a"], columns([1, 2]))
    with pytest.raises(InputError, match="missing"):
        dataset.put(["a"], {"label": np.array([1])})
    with pytest.raises(NotFoundError, match="no item 'x'"):
        dataset.get("x")
    assert dataset.delete(["x"]) == dataset.delete([]) == 0


def test_create_and_open_refuse_what_is_not_theirs(tmp_path: Path) -> None:
    dataset = new(tmp_path / "d")
    assert repr(dataset) == "<Dataset digits: 0 items on 3 nodes>"
    with pytest.raises(ConflictError, match="exists already"):
        new(tmp_path / "d")
    with pytest.raises(ConflictError, match="secret"):
        Dataset.open(tmp_path / "d", Ring(["node-0"], bytes(16)))
    with pytest.raises(NotFoundError, match="no nodes"):
        Dataset.open(tmp_path / "d", Ring([], SECRET))
    with pytest.raises(CorruptError, match="its spec cannot be read"):
        Dataset.open(tmp_path / "other", ring_of(1))
    (tmp_path / "d" / "commit.bin").unlink()
    with pytest.raises(CorruptError, match="lost its commit"):
        Dataset.open(tmp_path / "d", ring_of(3))


def test_known_places_on_the_ring_store_items_where_their_keys_would(tmp_path: Path) -> None:
    keys = [f"k{i}" for i in range(40)]
    first = new(tmp_path / "first", nodes=3)
    first.put(keys, columns(list(range(40))))
    source = first.source()
    everything = np.arange(40)
    second = new(tmp_path / "second", nodes=3)
    rows = source.facts(everything)
    second.put(source.keys(everything), source.take(everything), Known(rows.copy()))
    assert second.placement() == first.placement()
    assert second.get("k7")["label"] == 7
    second.put(["k7", "k7", "k8"], columns([1, 2, 3]), Known(rows[[7, 7, 8]]))
    assert [int(second.get(key)["label"]) for key in ("k7", "k8")] == [2, 3]
    assert second.count == 40


def known_at(dataset: Dataset, keys: list[str], new_at: int) -> Known:
    hashes = dataset._placement.hashes([key.encode() for key in keys])
    return Known(table(1, hashes, np.zeros(len(keys), np.uint32)), new_at=new_at)


@pytest.mark.parametrize("replication", [1, 2])
def test_items_that_are_new_are_stored_without_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replication: int
) -> None:
    dataset = new(tmp_path, replication=replication)
    with monkeypatch.context() as patched:
        patched.setattr(Shard, "find", None)
        for first in (0, 100):
            keys = KEYS[first : first + 100]
            report = dataset.put(
                Keys.of([key.encode() for key in keys]),
                columns(LABELS[first : first + 100]),
                known_at(dataset, keys, first + 1),
            )
            assert (report.written, report.replaced) == (100, 0)
    again = Dataset.open(tmp_path, ring_of(3))
    again.verify()
    assert content(dataset) == content(again) == dict(zip(KEYS, LABELS, strict=True))
    assert again.get("k150")["label"] == dataset.get("k150")["label"] == 150


@pytest.mark.parametrize("change", ["put", "put and delete", "move"])
def test_items_said_to_be_new_replace_what_somebody_put_meanwhile(
    tmp_path: Path, change: str
) -> None:
    dataset = new(tmp_path)
    known = known_at(dataset, ["a", "b"], 1)
    if "put" in change:
        dataset.put(["b", "c"], columns([8, 9]))
    if "delete" in change:
        dataset.delete(["b"])
    if change == "move":
        dataset.rebalance(ring_of(4))
    report = dataset.put(Keys.of([b"a", b"b"]), columns([1, 2]), known)
    assert report.replaced == (change == "put")
    assert dataset.count == len(content(dataset)) == (2 if change == "move" else 3)
    assert dataset.get("b")["label"] == 2
