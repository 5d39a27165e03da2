"""A source is the same view in every process, whatever happens to the data set."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aiaas_async.data.source import Source
from aiaas_async.errors import CorruptError, InvalidError
from tests.data.build import columns, new, ring_of

READER = """
import json, sys
import numpy as np
from aiaas_async.data.source import Source
source = Source.open(json.load(sys.stdin))
labels = source.take(np.arange(len(source)))["label"].tolist()
print(json.dumps([labels, source.digest()]))
"""


def test_a_manifest_opens_the_same_view_after_later_changes(tmp_path: Path) -> None:
    dataset = new(tmp_path, nodes=3, replication=2)
    dataset.put([f"k{i}" for i in range(100)], columns(list(range(100))))
    dataset.delete(["k3"])
    manifest = json.loads(json.dumps(dataset.source().manifest()))
    digest = dataset.digest()
    dataset.put(["k4", "new"], columns([0, 1]))
    dataset.rebalance(ring_of(4))
    again = Source.open(manifest)
    everything = np.arange(99)
    assert again.take(everything)["label"].tolist() == [i for i in range(100) if i != 3]
    assert again.keys(np.array([98, 0])) == ["k99", "k0"]
    assert again.digest() == digest
    assert "99 items in 3 shards" in repr(again)


@pytest.mark.real
def test_another_process_reads_the_same_items(tmp_path: Path) -> None:
    dataset = new(tmp_path, nodes=2)
    dataset.put(None, columns([5, 3, 8, 1]))
    manifest = json.dumps(dataset.source().manifest())
    read = subprocess.run(
        [sys.executable, "-c", READER], input=manifest, capture_output=True, text=True, check=True
    )
    assert json.loads(read.stdout) == [[5, 3, 8, 1], dataset.digest()]


def test_take_follows_the_indices_with_repeats_and_any_order(tmp_path: Path) -> None:
    dataset = new(tmp_path, nodes=4)
    dataset.put([f"k{i}" for i in range(50)], columns(list(range(50))))
    taken = dataset.source().take(np.array([7, 0, 7, 49]))
    assert taken["label"].tolist() == [7, 0, 7, 49]
    assert taken["image"].shape == (4, 2, 3)
    assert taken["image"].dtype == np.uint8
    taken["image"][:] = 0  # a copy: nobody else's data


def test_nothing_can_be_taken_from_outside(tmp_path: Path) -> None:
    dataset = new(tmp_path)
    empty = dataset.source()
    assert len(empty) == 0
    assert empty.take(np.empty(0, np.int64))["label"].shape == (0,)
    dataset.put(["a"], columns([1]))
    for outside in ([1], [-1]):
        with pytest.raises(InvalidError, match="asked of a source of 1"):
            dataset.source().take(np.array(outside))


def test_a_manifest_that_does_not_fit_the_files_is_refused(tmp_path: Path) -> None:
    dataset = new(tmp_path / "d")
    dataset.put(["a"], columns([1]))
    manifest = dataset.source().manifest()
    with pytest.raises(InvalidError, match="not the manifest"):
        Source.open({"shards": 1})
    with pytest.raises(CorruptError, match="1 of the 2 items"):
        Source.open({**manifest, "items": 2})
    (tmp_path / "d").rename(tmp_path / "moved")
    with pytest.raises(CorruptError, match="moved or deleted"):
        Source.open(manifest)


def test_looking_gives_what_taking_gives_without_a_copy_where_items_lie_together(
    tmp_path: Path,
) -> None:
    dataset = new(tmp_path, nodes=2)
    dataset.put([f"k{i}" for i in range(50)], columns(list(range(50))))
    source = dataset.source()
    for items in (extent.items for extent in source.extents().values()):
        seen = source.look(items[3:9], ["image"])
        assert not seen["image"].flags.owndata
        np.testing.assert_array_equal(seen["image"], source.take(items[3:9])["image"])
    for scattered in ([0, 1, 2, 3, 4, 5], [4, 2], []):
        indices = np.array(scattered, np.int64)
        assert source.look(indices)["label"].tolist() == scattered


def test_every_item_lies_in_one_shard_also_with_copies(tmp_path: Path) -> None:
    dataset = new(tmp_path, nodes=3, replication=2)
    dataset.put([f"k{i}" for i in range(50)], columns(list(range(50))))
    found = np.concatenate([extent.items for extent in dataset.source().extents().values()])
    assert sorted(found.tolist()) == list(range(50))
