"""Who is there at a start: what joined and left counts until the setting is changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import StorageError
from aiaas_async.service.roster import filled, members_at_start, remember
from tests.service.conftest import Start

NAMES = st.lists(st.sampled_from([f"node-{n}" for n in range(6)] + ["a", "b"]), unique=True)


def test_at_first_there_are_as_many_as_the_settings_say(tmp_path: Path) -> None:
    assert members_at_start(tmp_path / "nodes", 0, 2) == ["node-0", "node-1"]


def test_who_joined_and_left_is_kept_while_the_setting_stays(tmp_path: Path) -> None:
    remember(tmp_path / "nodes", 0, ["node-1", "big"])
    assert members_at_start(tmp_path / "nodes", 0, 8) == ["node-1", "big"]


def test_a_changed_setting_holds_again_with_the_members_it_allows(tmp_path: Path) -> None:
    remember(tmp_path / "nodes", 3, ["node-1", "big", "node-5"])
    assert members_at_start(tmp_path / "nodes", 2, 2) == ["node-1", "big"]
    assert members_at_start(tmp_path / "nodes", 0, 5) == [
        *("node-1", "big", "node-5"),
        *("node-0", "node-2"),
    ]


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"{}",
        b'{"setting": 2, "members": []}',
        b'{"setting": 2, "members": ["a", "a"]}',
        b'{"setting": 2, "members": ["../a"]}',
        b'{"setting": 2, "members": "a"}',
    ],
)
def test_a_roster_that_makes_no_sense_is_left_alone(tmp_path: Path, stored: bytes) -> None:
    (tmp_path / "nodes").write_bytes(stored)
    assert members_at_start(tmp_path / "nodes", 2, 2) == ["node-0", "node-1"]
    assert (tmp_path / "nodes").read_bytes() == stored


@given(NAMES, st.integers(1, 10))
def test_filling_up_keeps_whom_it_can_and_makes_nobody_twice(known: list[str], wanted: int) -> None:
    found = filled(known, wanted)
    assert len(found) == len(set(found)) == wanted
    assert found[: len(known)] == known[:wanted]


async def test_nodes_that_joined_or_left_are_so_after_a_restart_and_data_with_them(
    start: Start,
) -> None:
    async with start() as platform:
        await platform.datasets.declare("points", {"columns": {"x": {"dtype": "int64"}}})
        columns = {"x": list(range(300))}
        await platform.datasets.put(
            "points", {"keys": [f"k{n}" for n in range(300)], "columns": columns}
        )
        await platform.membership.join("big")
        await platform.membership.leave("node-0")
    async with start() as platform:
        assert platform.cluster.members == ["node-1", "big"]
        assert set((await platform.datasets.describe("points"))["nodes"]) == {"node-1", "big"}
        assert (await platform.membership.join())["id"] == "node-0"
    async with start(nodes=1) as platform:
        assert platform.cluster.members == ["node-1"]
        facts = await platform.datasets.describe("points")
        assert (facts["count"], set(facts["nodes"])) == (300, {"node-1"})
        assert (await platform.datasets.get("points", "k7"))["columns"]["x"] == 7


async def test_a_change_that_cannot_be_written_down_stands_and_says_so(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as platform:

        def full(_: object) -> None:
            raise StorageError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(platform.membership, "_remember", full)
            joined = await platform.membership.join("c")
            assert joined["forgotten_at_restart"] == "the disk is full"
            assert "c" in platform.cluster.ring
        assert "forgotten_at_restart" not in await platform.membership.leave("c")
