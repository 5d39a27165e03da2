"""A shard tells keys apart even when their hashes are the same."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiaas_async.data.items import checksums, table
from aiaas_async.data.keys import Keys
from aiaas_async.data.schema import Column
from aiaas_async.data.shard import Shard

COLUMNS = {"x": Column("int64")}
NONE = np.empty(0, np.int64)
SAME = np.array([5, 5], np.uint64)


def arrays(*numbers: int) -> dict[str, NDArray[Any]]:
    return {"x": np.array(numbers, np.int64)}


def test_two_keys_with_one_hash_are_two_items(tmp_path: Path) -> None:
    shard = Shard(tmp_path / "s", COLUMNS, 0)
    values = arrays(10, 20)
    shard.prepare(table(1, SAME, checksums(values)), Keys.of([b"a", b"b"]), values, NONE)
    assert shard.find(SAME, Keys.of([b"a", b"b"])).tolist() == [-1, -1]
    shard.apply()
    assert shard.find(SAME, Keys.of([b"b", b"a"])).tolist() == [1, 0]
    assert shard.find(SAME[:1], Keys.of([b"c"])).tolist() == [-1]
    assert shard.values(1)["x"] == 20


def test_what_was_rolled_back_is_cut_off_and_written_over(tmp_path: Path) -> None:
    shard = Shard(tmp_path / "s", COLUMNS, 0)
    for undone in (arrays(1, 2), arrays(3, 4)):
        shard.prepare(table(1, SAME, checksums(undone)), Keys.of([b"a", b"b"]), undone, NONE)
        shard.rollback()
    assert repr(shard) == "<Shard s: 0 of 0 rows count, 0 blocks, 0 prepared>"
    shard.clean()
    assert [path.stat().st_size for path in sorted(shard.folder.iterdir())] == [0, 0]
    values = arrays(5)
    shard.prepare(table(1, SAME[:1], checksums(values)), Keys.of([b"a"]), values, NONE)
    shard.apply()
    again = Shard(tmp_path / "s", COLUMNS, 1)
    again.verify()
    assert again.values(0)["x"] == 5
    assert again.nbytes == 8


def test_several_blocks_can_be_prepared_for_one_commit(tmp_path: Path) -> None:
    shard = Shard(tmp_path / "s", COLUMNS, 0)
    for at, key in enumerate((b"a", b"b")):
        values = arrays(at)
        shard.prepare(table(at + 1, SAME[:1], checksums(values)), Keys.of([key]), values, NONE)
    assert shard.blocks_prepared == 2
    shard.apply()
    shard.prepare_end(np.array([0]))
    shard.apply()
    again = Shard(tmp_path / "s", COLUMNS, 3)
    assert again.find(SAME, Keys.of([b"a", b"b"])).tolist() == [-1, 1]
    assert again.table.live_rows().tolist() == [1]
