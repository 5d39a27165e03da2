"""The tables say what a version is: in quarantine, or a candidate, and what to do."""

from __future__ import annotations

from pathlib import Path

from tests.cli.serving import Shell
from tests.http.conftest import serving
from tests.http.models import commit_doubler, succeed
from tests.http.test_jobs import store
from tests.http.test_standing import HARD, kill_three_times, trained


async def test_tables_show_a_version_in_quarantine_and_until_when(scratch: Path) -> None:
    async with serving(scratch) as served:
        shell = Shell(served)
        await commit_doubler(served.api)
        await succeed(served.api.post("/deployments", {"model": "doubler"}))
        kill_three_times(served.platform, "doubler:1.0")
        assert "quarantined: 1.0" in (await shell("models")).output
        reason = ": it killed its compute process 3 times within 60 s"
        for line in ("models doubler", "deployments"):
            output = (await shell(line)).output
            assert "quarantined" in output
            assert reason in output
            assert "until " in output
        assert "doubler:1.0 is quarantined until " in (await shell("nodes")).output
        assert (await shell.json("models doubler 1.0"))["state"] == "quarantined"


async def test_tables_show_a_candidate_and_release_makes_it_latest(scratch: Path) -> None:
    async with serving(scratch) as served:
        shell = Shell(served)
        await store(served.api)
        await trained(served.api, "1.0")
        await trained(served.api, "2.0", **HARD)
        assert "candidate: 2.0" in (await shell("models")).output
        table = (await shell("models m")).output
        assert "candidate for best: val_loss is 0." in table
        assert "the gate asks for val_loss < 0" in table
        told = (await shell("models m 2.0 --release")).output
        assert told == "m:2.0 is released; latest is 2.0\n"
        told = (await shell("models m:2.0 --release")).output
        assert told == "m:2.0 was no candidate; latest is 2.0\n"
        assert "candidate" not in (await shell("models m")).output


async def test_the_table_shows_a_damaged_data_set_and_the_others(scratch: Path) -> None:
    async with serving(scratch) as served:
        for name in ("one", "two"):
            columns = {"x": {"dtype": "int64", "shape": []}}
            await succeed(served.api.put(f"/datasets/{name}", {"columns": columns}))
            body = {"keys": ["a", "b"], "columns": {"x": [1, 2]}}
            await succeed(served.api.post(f"/datasets/{name}/items", body))
    for spec in (scratch / "datasets").glob("*/spec.json"):
        if b'"one"' in spec.read_bytes():
            (spec.parent / "commit.bin").write_bytes(b"")
    async with serving(scratch) as served:
        output = (await Shell(served)("datasets")).output
        assert [line.split()[:3] for line in output.splitlines()[-3:-1]] == [
            ["one", "?", "?"],
            ["two", "2", "1"],
        ]
        assert "one is damaged: " in output
