"""A scan computes what calls would, whichever rows are meant, and tells each result's checksum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from aiaas_async.compute import scan as module
from aiaas_async.compute.frames import Array
from aiaas_async.compute.jobs import InputFile, Scan
from aiaas_async.compute.scan import CHECKSUMS, scan
from aiaas_async.data.items import checksums
from aiaas_async.data.schema import Column
from aiaas_async.errors import ArtifactError, CorruptError, InputError
from aiaas_async.messages import TensorSpec

SPECS = (TensorSpec("x", "float32", (4,)),)


class Doubler:
    """A model that notes how many rows came at once."""

    inputs, nbytes = SPECS, 0
    outputs = (TensorSpec("y", "float32", (4,)),)

    def __init__(self, *, lost_rows: int = 0, widens: bool = False) -> None:
        self.passes: list[int] = []
        self._lost, self._widens = lost_rows, widens

    def predict(
        self, arrays: Mapping[str, Array], outputs: Sequence[str] | None
    ) -> dict[str, Array]:
        assert outputs == ("y",)
        x = arrays["x"]
        self.passes.append(len(x))
        width = len(self.passes) if self._widens else 1
        return {"y": np.tile(2 * x[self._lost :], width)}

    def close(self) -> None: ...


@pytest.fixture
def values(tmp_path: Path) -> Array:
    found = np.random.default_rng(0).standard_normal((1000, 4)).astype(np.float64)
    found.tofile(tmp_path / "c0.bin")
    return found


def job(folder: Path, start: int, stop: int) -> Scan:
    column = InputFile("x", str(folder / "c0.bin"), Column("float64", (4,)))
    return Scan("m", (column,), start, stop, ("y",), SPECS)


def test_rows_go_through_the_model_in_passes_and_come_back_in_order(
    tmp_path: Path, values: Array
) -> None:
    model = Doubler()
    found = scan(model, job(tmp_path, 100, 900), None)
    np.testing.assert_array_equal(found["y"], 2 * values[100:900].astype(np.float32))
    assert found[CHECKSUMS].tolist() == checksums({"y": found["y"]}).tolist()
    whole, rest = divmod(800, module.PASS_ROWS)
    assert rest
    assert model.passes == [module.PASS_ROWS] * whole + [rest]


def test_picked_rows_are_those_and_no_others(tmp_path: Path, values: Array) -> None:
    picked = np.array([700, 3, 4, 999], np.int64)
    found = scan(Doubler(), job(tmp_path, 3, 1000), picked)
    np.testing.assert_array_equal(found["y"], 2 * values[picked].astype(np.float32))


def test_values_that_a_call_may_not_have_are_refused(tmp_path: Path, values: Array) -> None:
    values[7, 1] = np.nan
    values.tofile(tmp_path / "c0.bin")
    with pytest.raises(InputError, match="nan"):
        scan(Doubler(), job(tmp_path, 0, 10), None)
    assert len(scan(Doubler(), job(tmp_path, 8, 10), None)["y"]) == 2


def test_a_model_that_loses_rows_or_changes_its_shape_is_found_out(
    tmp_path: Path, values: Array
) -> None:
    with pytest.raises(ArtifactError, match="batch of 10 rows"):
        scan(Doubler(lost_rows=1), job(tmp_path, 0, 10), None)
    with pytest.raises(ArtifactError, match="from batch to batch"):
        scan(Doubler(widens=True), job(tmp_path, 0, 1000), None)


def test_a_file_that_is_gone_is_damage(tmp_path: Path) -> None:
    with pytest.raises(CorruptError):
        scan(Doubler(), job(tmp_path, 0, 1), None)
