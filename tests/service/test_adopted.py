"""A training whose version is committed has succeeded, though its record did not say so yet."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aiaas_async.jobs.board import JobBoard, Running
from aiaas_async.service.platform import Platform
from tests.service.conftest import Start
from tests.service.test_distributed import result, submitted, with_points
from tests.service.test_promotion import EASY, HARD


async def killed(platform: Platform, request: dict[str, Any]) -> Running:
    """A training whose server is killed before it can say that the job has succeeded."""
    move = JobBoard._move

    async def lost(board: JobBoard, job: Running, state: str, **changes: Any) -> None:
        if state == "succeeded":
            raise asyncio.CancelledError
        await move(board, job, state, **changes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JobBoard, "_move", lost)
        job = await submitted(platform, "1", request, method="sgd", epochs=2)
        assert job.task is not None
        await asyncio.wait([job.task])
    assert job.record.state == "running"
    return job


@pytest.mark.parametrize(
    ("asked", "promoted"), [(EASY, True), (HARD, False), ({"alias": "champion"}, True), ({}, None)]
)
async def test_a_job_that_was_killed_after_adoption_tells_its_result_after_the_restart(
    start: Start, scratch: Path, asked: dict[str, Any], promoted: bool | None
) -> None:
    async with start() as platform:
        await with_points(platform)
        job = await killed(platform, asked)
        version = platform.models.catalog.version("clouds", "1")
        assert (scratch / "jobs" / job.record.id).exists()
    async with start() as platform:
        found = await result(platform.jobs.get(job.record.id))
        assert (found["model"], found["version"]) == ("clouds", "1")
        assert found["digest"] == version.digest
        assert found["epochs"] == 2
        assert found["metrics"] == version.metadata.metrics
        assert found.get("promoted") == promoted
        if asked is HARD:
            assert found["reason"].endswith("the gate asks for val_loss < 0")
            assert found["candidate"] is True
        assert not (scratch / "jobs" / job.record.id).exists()


async def test_an_alias_that_somebody_moved_before_the_job_could_is_told(start: Start) -> None:
    async with start() as platform:
        await with_points(platform)
        job = await killed(platform, {"alias": "champion"})
        await platform.models.delete_alias("clouds", "champion")
    async with start() as platform:
        found = await result(platform.jobs.get(job.record.id))
        assert (found["alias"], found["promoted"]) == (None, False)
        assert found["reason"] == "alias clouds:champion was changed by somebody else meanwhile"
