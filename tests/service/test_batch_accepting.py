"""Batch jobs are accepted as a whole, whoever goes away meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiaas_async.errors import ConflictError, OverloadedError
from aiaas_async.jobs.board import Running
from aiaas_async.service.platform import Platform
from tests.service.conftest import Start
from tests.service.test_batch import begin, check, over, prepare


class HeldSave:
    """The board saves, or is `refused` to, when the test says so."""

    def __init__(
        self, platform: Platform, monkeypatch: pytest.MonkeyPatch, *, refused: bool = False
    ) -> None:
        self.free, self._reached = asyncio.Event(), asyncio.Event()
        self._platform, save = platform, platform.jobs._save

        async def held(records: Any, forgotten: Any) -> None:
            self._reached.set()
            await self.free.wait()
            if refused:
                raise OverloadedError("changes wait for the disk already")
            await save(records, forgotten)

        monkeypatch.setattr(platform.jobs, "_save", held)

    async def begun(self) -> asyncio.Task[Running]:
        """A job that is being accepted."""
        asking = asyncio.create_task(begin(self._platform))
        await self._reached.wait()
        return asking


@pytest.mark.parametrize("refused", [False, True])
async def test_a_client_that_goes_away_while_its_job_is_saved_leaves_all_or_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    async with start() as platform:
        values = await prepare(platform, 20)
        saving = HeldSave(platform, monkeypatch, refused=refused)
        asking = await saving.begun()
        asking.cancel()
        await asyncio.wait([asking])
        saving.free.set()
        await platform.jobs.accepting.settle(20)
        if refused:
            assert platform.jobs.all() == []
            assert [each["name"] for each in await platform.datasets.list_all()] == ["things"]
            return
        (job,) = platform.jobs.all()
        await over(job)
        await check(platform, values)


@pytest.mark.parametrize("name", ["things", "results"])
async def test_what_a_job_that_is_being_accepted_reads_and_writes_is_not_deleted(
    start: Start, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with start() as platform:
        values = await prepare(platform, 20)
        saving = HeldSave(platform, monkeypatch)
        asking = await saving.begun()
        said = f"data set {name} is in use by a batch job that is being accepted"
        with pytest.raises(ConflictError, match=said):
            await platform.datasets.delete(name)
        saving.free.set()
        await over(await asking)
        await check(platform, values)
        await platform.datasets.delete(name)
