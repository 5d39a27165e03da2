"""An upload that fails leaves no empty data set behind that it declared itself."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.files import npy
from tests.cli.serving import Shell
from tests.http.conftest import serving
from tests.http.models import succeed

BAD = {
    "one key too few": {"x": np.ones((3, 2), np.float32), "keys": np.array(["a", "b"])},
    "a key too long": {"x": np.ones((2, 2), np.float32), "keys": np.array(["a", "b" * 300])},
    "texts": {"x": np.ones(2, np.float32), "said": np.array(["yes", "no"])},
}
COLUMNS = {"x": {"dtype": "float32", "shape": [2]}}


@pytest.mark.parametrize("what", BAD)
async def test_a_data_set_into_which_nothing_came_is_gone_again(scratch: Path, what: str) -> None:
    np.savez(scratch / "bad.npz", **BAD[what])  # type: ignore[arg-type]
    async with serving(scratch / "data") as served:
        await Shell(served)(f"ingest d {scratch / 'bad.npz'}", status=1)
        assert (await served.api.get("/datasets")).value["datasets"] == []


async def test_one_that_was_there_before_or_has_items_stays(scratch: Path) -> None:
    np.savez(scratch / "bad.npz", **BAD["a key too long"])  # type: ignore[arg-type]
    async with serving(scratch / "data") as served:
        api = served.api
        assert (await api.put("/datasets/d", {"columns": COLUMNS})).value["created"] is True
        await Shell(served)(f"ingest d {scratch / 'bad.npz'}", status=1)
        assert (await api.put("/datasets/d", {"columns": COLUMNS})).value["created"] is False
        await succeed(api.post("/datasets/d/items", {"columns": {"x": [[1, 2]]}}))
        reply = await api.delete("/datasets/d?state=empty")
        assert (reply.status, reply.detail) == (409, "data set d is not empty: it has 1 items")
        assert (await api.delete("/datasets/d?state=full")).status == 422
        assert (await api.get("/datasets/d")).value["count"] == 1


async def test_fewer_copies_than_were_asked_for_are_told(scratch: Path) -> None:
    np.savez(scratch / "d.npz", x=np.ones((1, 2), np.float32))
    few = "replication 5, but only 2 nodes: 2 copies until more join"
    async with serving(scratch / "data") as served:
        shell = Shell(served)
        assert few in (await shell(f"ingest d {scratch / 'd.npz'} --replication 5")).stderr
        assert few in (await shell("datasets d")).stdout
        assert "2 of 5" in (await shell("datasets")).stdout
        plain = await shell(f"ingest e {scratch / 'd.npz'} --replication 2")
        assert "replication" not in plain.output


def _cut(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def _damaged(whole: bytes) -> bytes:
    """With another byte among the values: their checksum does not fit."""
    return whole[:300] + bytes([whole[300] ^ 255]) + whole[301:]


def _odd(_: bytes) -> bytes:
    """An archive whose checksums fit and whose array's header does not end: to numpy no
    `ValueError`, but one of a dozen other kinds."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x.npy", npy("'<f4'", "(2,)", end="("))
    return archive.getvalue()


@pytest.mark.parametrize("harm", [_cut, _damaged, _odd])
async def test_a_file_that_is_cut_or_damaged_is_told_as_none_and_makes_no_data_set(
    scratch: Path, harm: Callable[[bytes], bytes]
) -> None:
    file = scratch / "d.npz"
    np.savez(file, x=np.zeros((1000, 10)))
    file.write_bytes(harm(file.read_bytes()))
    async with serving(scratch / "data") as served:
        said = (await Shell(served)(f"ingest d {file}", status=1)).stderr
        assert said == (
            f"error: {file} is no .npz file of number arrays, or it is damaged: make one with "
            "numpy.savez\n"
        )
        assert (await served.api.get("/datasets")).value["datasets"] == []
