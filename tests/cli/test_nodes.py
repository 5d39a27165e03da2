"""Nodes that come and go, and data that could not go with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiaas_async.cli.options import REFUSED
from aiaas_async.errors import StorageError
from tests.cli.serving import Shell
from tests.http.conftest import serving


@pytest.mark.parametrize("line", ["nodes extra --join", "nodes node-1 --remove"])
async def test_data_that_could_not_move_is_told_and_the_command_has_failed(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    async def full(ring: object) -> int:
        raise StorageError("the disk is full")

    async with serving(scratch) as served:
        monkeypatch.setattr(served.platform.datasets, "follow", full)
        found = await Shell(served)(line, REFUSED)
        assert "items moved" not in found.output
        assert found.stderr == (
            "error: its data could not move: the disk is full; it is read where it is, and follows "
            "when the next node joins or leaves, or at the next start\n"
        )


async def test_a_program_gets_the_facts_and_the_status(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(ring: object) -> int:
        raise StorageError("the disk is full")

    async with serving(scratch) as served:
        monkeypatch.setattr(served.platform.datasets, "follow", full)
        facts = await Shell(served).json("nodes node-1 --remove", REFUSED)
        assert facts["moved"] == {"copies": 0, "error": "the disk is full"}


async def test_a_node_that_comes_and_goes_says_how_many_items_moved(scratch: Path) -> None:
    async with serving(scratch) as served:
        shell = Shell(served)
        assert (await shell("nodes extra --join")).stdout == "extra joined; 0 items moved\n"
        assert (await shell("nodes extra --remove")).stdout == "extra left; 0 items moved\n"
