"""Whatever moment the power fails, what was acknowledged is there, and nothing in halves."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.data.commit import CommitFile
from aiaas_async.data.dataset import Dataset
from aiaas_async.data.layout import Layout, shard_folder
from aiaas_async.data.shard import Shard
from aiaas_async.errors import CorruptError
from tests.data.build import columns, content, new, ring_of
from tests.folders import in_memory

BATCH = 20
WRITER = """
import sys
from pathlib import Path
from tests.data.build import columns, new
dataset = new(Path(sys.argv[1]))
for batch in range(10**6):
    labels = list(range(batch * 20, batch * 20 + 20))
    dataset.put([f"k{label}" for label in labels], columns(labels))
    print(batch, flush=True)
"""


def labels_of(batch: int) -> list[int]:
    return list(range(batch * BATCH, (batch + 1) * BATCH))


def put_batch(dataset: Dataset, batch: int) -> None:
    labels = labels_of(batch)
    dataset.put([f"k{label}" for label in labels], columns(labels))


def sizes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_put_cut_anywhere_before_its_commit_leaves_no_trace(data: st.DataObject) -> None:
    with in_memory() as root:
        folder = root / "d"
        dataset = new(folder)
        put_batch(dataset, 0)
        before = sizes(folder)
        commit = (folder / "commit.bin").read_bytes()
        put_batch(dataset, 1)
        (folder / "commit.bin").write_bytes(commit)
        for path, size in sizes(folder).items():
            if size > before.get(path, 0) and path.name != "commit.bin":
                os.truncate(path, data.draw(st.integers(before.get(path, 0), size), path.name))
        again = Dataset.open(folder, ring_of(3))
        assert list(content(again).values()) == labels_of(0)
        put_batch(again, 2)
        again = Dataset.open(folder, ring_of(3))
        again.verify()
        assert list(content(again).values()) == labels_of(0) + labels_of(2)


def test_a_torn_commit_leaves_the_previous_one(tmp_path: Path) -> None:
    dataset = new(tmp_path)
    put_batch(dataset, 0)
    put_batch(dataset, 1)
    raw = bytearray((tmp_path / "commit.bin").read_bytes())
    raw[9] ^= 1  # the third commit, after the empty one and batch 0, is in slot 0
    (tmp_path / "commit.bin").write_bytes(raw)
    assert list(content(Dataset.open(tmp_path, ring_of(3))).values()) == labels_of(0)
    raw[2**16 + 9] ^= 1
    (tmp_path / "commit.bin").write_bytes(raw)
    with pytest.raises(CorruptError, match="lost its commit"):
        Dataset.open(tmp_path, ring_of(3))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_flipped_bit_of_a_shard_is_found_and_named(data: st.DataObject) -> None:
    with in_memory() as root:
        folder = root / "d"
        dataset = new(folder, nodes=2)
        for batch in range(3):
            put_batch(dataset, batch)
        files = sorted(p for p in folder.glob("*/*") if p.stat().st_size)
        path = data.draw(st.sampled_from(files))
        raw = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(raw) * 8 - 1))
        raw[at // 8] ^= 1 << at % 8
        path.write_bytes(raw)
        with pytest.raises(CorruptError, match=f"shard {path.parent.name}, block [0-2]"):
            Dataset.open(folder, ring_of(2)).verify()


def test_damage_of_the_last_block_is_found_at_open_and_of_others_when_read(tmp_path: Path) -> None:
    dataset = new(tmp_path, nodes=1)
    put_batch(dataset, 0)
    put_batch(dataset, 1)
    (path,) = tmp_path.glob("*/c1.bin")
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"\x7f")
    with pytest.raises(CorruptError, match="block 1"):
        Dataset.open(tmp_path, ring_of(1))
    path.write_bytes(b"\x7f" + good[1:])
    again = Dataset.open(tmp_path, ring_of(1))
    with pytest.raises(CorruptError, match="block 0 is damaged: row 0"):
        again.get("k0")
    assert again.get("k1")["label"] == 1
    path.write_bytes(good[:-1])
    with pytest.raises(CorruptError, match="column label has"):
        Dataset.open(tmp_path, ring_of(1))
    path.unlink()
    with pytest.raises(CorruptError, match="column label has 0 of 320 bytes"):
        Dataset.open(tmp_path, ring_of(1))


def test_a_lost_log_of_committed_blocks_is_damage_not_an_empty_shard(tmp_path: Path) -> None:
    dataset = new(tmp_path, nodes=1)
    put_batch(dataset, 0)
    (log,) = tmp_path.glob("*/log")
    log.write_bytes(log.read_bytes()[:-1])
    with pytest.raises(CorruptError, match="block 0 is damaged: its log record"):
        Dataset.open(tmp_path, ring_of(1))
    log.unlink()
    with pytest.raises(CorruptError, match="has no log"):
        Dataset.open(tmp_path, ring_of(1))


@pytest.mark.real
def test_an_empty_shard_has_no_folder_and_takes_one_that_a_power_cut_left(tmp_path: Path) -> None:
    dataset = new(tmp_path, nodes=2)
    assert not [path for path in dataset.folder.iterdir() if path.is_dir()]
    left = dataset.folder / shard_folder("node-1")
    left.mkdir()
    (left / "c0.bin").write_bytes(b"of a block that was never committed")
    dataset = Dataset.open(dataset.folder, ring_of(2))
    assert (left / "c0.bin").read_bytes() == b""
    put_batch(dataset, 1)
    assert content(Dataset.open(dataset.folder, ring_of(2))) == content(dataset)


def test_names_are_durable_before_the_commit_that_counts_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = new(tmp_path, nodes=1)
    shard = dataset.folder / shard_folder("node-0")
    synced: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    put_batch(dataset, 1)
    commit = synced.index(dataset.folder / "commit.bin")
    assert {shard, dataset.folder, shard / "log"} <= set(synced[:commit])
    synced.clear()
    put_batch(dataset, 2)
    assert shard not in synced


def test_a_writer_killed_in_the_middle_keeps_every_acknowledged_batch_whole(tmp_path: Path) -> None:
    for acknowledged in (1, 4, 9):
        folder = tmp_path / str(acknowledged)
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        with writer, writer.stdout as lines:
            said = next(line for line in lines if int(line) == acknowledged)
            writer.send_signal(signal.SIGKILL)
            rest = lines.read().split()
        last = int(rest[-1]) if rest else int(said)
        dataset = Dataset.open(folder, ring_of(3))
        dataset.verify()
        labels = list(content(dataset).values())
        assert labels in (
            np.arange((last + 1) * BATCH).tolist(),
            np.arange((last + 2) * BATCH).tolist(),  # committed, and killed before it could say so
        )
        shutil.rmtree(folder)


KEYS = [f"k{i}" for i in range(30)]
Step = Callable[[Dataset], object]
REJOIN: list[Step] = [
    lambda dataset: dataset.put(KEYS, columns([1] * 30)),
    lambda dataset: dataset.put(KEYS[:15], columns([2] * 15)),
    lambda dataset: dataset.compact(),
    lambda dataset: dataset.rebalance(ring_of(2)),
    lambda dataset: dataset.put(KEYS[10:20], columns([3] * 10)),
    lambda dataset: dataset.rebalance(ring_of(3)),
    lambda dataset: dataset.put(["a", "b", "c", "d", "e", "f"], columns([4] * 6)),
    lambda dataset: dataset.compact(),
    lambda dataset: dataset.rebalance(ring_of(1)),
    lambda dataset: dataset.rebalance(ring_of(4)),
    lambda dataset: dataset.delete(KEYS[5:25]),
]


class Camera:
    """Copies `folder` before and after each step that makes something durable, as a power cut at
    that moment would leave it."""

    def __init__(self, folder: Path, patched: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self.taken: list[Path] = []
        for owner, step in ((Layout, "save"), (CommitFile, "write"), (Shard, "sync")):
            patched.setattr(owner, step, self._around(getattr(owner, step)))

    def _around(self, step: Callable[..., None]) -> Callable[..., None]:
        def photographed(*given: Any) -> None:
            self._take()
            step(*given)
            self._take()

        return photographed

    def _take(self) -> None:
        for thread in threading.enumerate():
            if thread.name == "reclaim":
                thread.join(10)
        self.taken.append(self._folder.with_name(f"{len(self.taken)}"))
        shutil.copytree(self._folder, self.taken[-1])


def recovered(folder: Path) -> dict[str, int]:
    """What `open` finds, on whatever nodes; and it takes items as ever."""
    dataset = Dataset.open(folder, ring_of(3))
    dataset.verify()
    found = content(dataset)
    dataset.put(["after"], columns([9]))
    assert content(Dataset.open(folder, ring_of(2))) == {**found, "after": 9}
    return found


@pytest.mark.parametrize("replication", [1, 2])
def test_a_node_that_leaves_and_joins_again_costs_no_item_wherever_the_power_fails(
    monkeypatch: pytest.MonkeyPatch, replication: int
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    with in_memory() as root:
        dataset = new(root / "d", 3, replication)
        allowed: list[tuple[dict[str, int], dict[str, int]]] = []
        with monkeypatch.context() as patched:
            camera = Camera(dataset.folder, patched)
            for step in REJOIN:
                before = content(dataset)
                step(dataset)
                states = before, content(dataset)
                allowed += [states] * (len(camera.taken) - len(allowed))
        for picture, states in zip(camera.taken, allowed, strict=True):
            assert recovered(picture) in states, picture.name
