"""A runtime of the settings that cannot be used is told at the start, not at the first push."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiaas_async.compute.inloop import InLoopWorkers
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.config import RuntimeSettings
from aiaas_async.errors import InvalidError
from aiaas_async.service.ownruntimes import check_runtimes
from tests.compute.processes import names_in
from tests.service.conftest import Start

HERE = "tests.runtimes.operators"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nopkg.mod:Class", "ModuleNotFoundError: No module named 'nopkg'"),
        (f"{HERE}:Absent", "has no attribute 'Absent'"),
        (f"{HERE}:Shelf.Absent", "has no attribute 'Absent'"),
        (f"{HERE}:Choosy", "missing 1 required positional argument: 'needed'"),
        (f"{HERE}:Silent", "its objects have no method 'predict'"),
    ],
)
async def test_a_class_that_cannot_be_used_ends_the_start(
    start: Start, scratch: Path, target: str, said: str
) -> None:
    workers = InLoopWorkers({"good": f"{HERE}:Polynomial", "mine": target})
    named = {"good": RuntimeSettings(f"{HERE}:Polynomial"), "mine": RuntimeSettings(target)}
    with pytest.raises(InvalidError) as caught:
        async with start(workers, runtimes=named):
            pass
    assert caught.value.message.startswith(f"runtimes.mine: target '{target}' cannot be used: ")
    assert said in caught.value.message
    assert names_in(str(scratch)) == []


async def test_a_class_that_can_be_used_is_no_obstacle(start: Start) -> None:
    target = f"{HERE}:Polynomial"
    named = {"poly": RuntimeSettings(target)}
    async with start(InLoopWorkers({"poly": target}), runtimes=named) as platform:
        assert platform.settings.runtimes == named


@pytest.mark.real
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("\n\nabsent_name", r"NameError: name 'absent_name' is not defined \(mine\.py, line 3\)"),
        (
            "import json\ndef load():\n    json.loads('x')\nload()",
            r"JSONDecodeError: .* \(mine\.py, line 3\)",
        ),
        ("def", r"SyntaxError: invalid syntax \(mine\.py, line 1\)"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import os; os._exit(3)", "the process that imported it died"),
        ("import threading; threading.Event().wait()", "took longer than 1 s to import"),
    ],
)
async def test_a_module_that_cannot_be_imported_is_met_in_a_worker(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    workers = WorkerForks(runtimes={"mine": "mine:Class"})
    with pytest.raises(InvalidError, match=f"runtimes.mine: target 'mine:Class' .*{said}"):
        await check_runtimes({"mine": RuntimeSettings("mine:Class")}, workers, 1.0)
    await workers.close()
