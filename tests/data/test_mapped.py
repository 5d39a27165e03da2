"""Rows of a column file are what lies there, and nothing keeps the file open."""

from pathlib import Path

import numpy as np
import pytest

from aiaas_async.data.mapped import map_rows
from aiaas_async.data.schema import Column
from aiaas_async.errors import CorruptError

COLUMN = Column("float32", (3, 5))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.arange(15_000, dtype=np.float32).tofile(tmp_path / "c0.bin")
    return tmp_path / "c0.bin"


@pytest.mark.parametrize(("start", "stop"), [(0, 1000), (0, 1), (999, 1000), (300, 800)])
def test_rows_are_mapped_wherever_pages_begin(file: Path, start: int, stop: int) -> None:
    expected = np.arange(15_000, dtype=np.float32).reshape(-1, 3, 5)[start:stop]
    found = map_rows(file, COLUMN, start, stop)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0


def test_rows_stay_readable_when_the_file_is_deleted(file: Path) -> None:
    found = map_rows(file, COLUMN, 10, 20)
    file.unlink()
    assert found[0, 0, 0] == 150


def test_rows_that_are_not_there_are_damage(file: Path) -> None:
    with pytest.raises(CorruptError, match="no rows 1000 to 1001"):
        map_rows(file, COLUMN, 1000, 1001)
    with pytest.raises(CorruptError, match="has no rows"):
        map_rows(file.with_name("c1.bin"), COLUMN, 0, 1)
