"""Layouts are made once for all nodes, live as long as their version and the server, and are never
needed for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from aiaas_async.compute.base import Answer, ProgressHandler
from aiaas_async.compute.frames import Pieces
from aiaas_async.compute.inloop import InLoopWorker, InLoopWorkers
from aiaas_async.compute.jobs import Job, LayOut, Load
from aiaas_async.errors import WorkerDiedError
from aiaas_async.names import ModelRef
from aiaas_async.nn import layout
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from aiaas_async.service import layouts
from aiaas_async.service.calls import CallRequest
from aiaas_async.service.platform import Platform
from tests.nn.graphs import spec
from tests.service.conftest import Start
from tests.service.pushing import push

WIDE = Network.from_spec(
    spec([{"name": f"d{i}", "op": "dense", "units": 512} for i in range(2)], ["d1"], (512,))
)
Kind = TypeVar("Kind", LayOut, Load)
X = np.random.default_rng(0).standard_normal((3, 512)).astype(np.float32)


@pytest.fixture(autouse=True)
def _paying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "takes_as_it_lies", lambda: True)


class Watched(InLoopWorkers):
    """Keeps the jobs; those to lay out wait until they `may`, or end in an `error`."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.jobs: list[Job] = []
        self.error, self.may, self.asked = error, asyncio.Event(), asyncio.Event()
        self.may.set()

    async def spawn(self, nice: int = 0) -> InLoopWorker:
        await super().spawn(nice)
        return _Worker(self)

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [job for job in self.jobs if isinstance(job, kind)]

    @property
    def mapped(self) -> set[str]:
        return {job.artifact.laid_out for job in self.jobs if isinstance(job, Load)}


class _Worker(InLoopWorker):
    def __init__(self, source: Watched) -> None:
        super().__init__()
        self._source = source

    def submit(
        self,
        job: Job,
        arrays: Sequence[Pieces] = (),
        on_progress: ProgressHandler | None = None,
    ) -> asyncio.Future[Answer]:
        self._source.jobs.append(job)
        if not isinstance(job, LayOut):
            return super().submit(job, arrays, on_progress)
        self._source.asked.set()
        if self._source.error is not None:
            raise self._source.error
        return asyncio.ensure_future(self._later(super().submit(job, arrays, on_progress)))

    async def _later(self, answer: asyncio.Future[Answer]) -> Answer:
        await self._source.may.wait()
        return await answer


async def pushed(
    platform: Platform, folder: Path, version: str = "1", network: Network = WIDE, seed: int = 1
) -> dict[str, Array]:
    """The weights of a version that is committed now."""
    params = network.init(seed)
    await push(platform, folder, ModelRef("wide", version), network, params)
    return params


async def check(platform: Platform, params: dict[str, Array], version: str = "1") -> None:
    answer = await platform.calls.call(CallRequest({"x": X}, "wide", version))
    expected = WIDE.predict(params, {"x": X})["d1"]
    np.testing.assert_allclose(answer.outputs["d1"], expected, rtol=1e-4, atol=1e-4)


def kept(folder: Path) -> list[Path]:
    return list((folder / "layouts").iterdir())


async def test_a_commit_makes_the_one_that_every_node_maps(
    start: Start, tmp_path: Path, scratch: Path
) -> None:
    workers = Watched()
    async with start(workers) as platform:
        params = await pushed(platform, tmp_path)
        (file,) = kept(scratch)
        await platform.deployments.deploy({"model": "wide", "version": "1", "replicas": 2})
        await check(platform, params)
        assert len(workers.of(Load)) == 2
        assert workers.mapped == {str(file)}
        assert len(workers.of(LayOut)) == 1
        files = 4 * sum(array.size for array in params.values())
        stored = platform.models.stored()
        assert stored["layouts"] == file.stat().st_size > files / 2
        assert stored["artifacts"] > files
        assert (scratch / "layouts").stat().st_mode & 0o777 == 0o700
    assert not (scratch / "layouts").exists()


async def test_calls_do_not_wait_for_it_and_the_next_has_it(
    start: Start, tmp_path: Path, scratch: Path
) -> None:
    async with start() as platform:
        params = await pushed(platform, tmp_path)
    workers = Watched()
    workers.may.clear()
    async with start(workers, nodes=1) as platform:
        await asyncio.gather(*[check(platform, params) for _ in range(3)])
        assert workers.mapped == {""}
        workers.may.set()
        await made("wide:1")
        await check(platform, params)
        await check(platform, params)
        (file,) = kept(scratch)
        assert [job.artifact.laid_out for job in workers.of(Load)] == ["", str(file)]
        assert len(workers.of(LayOut)) == 1


async def test_it_goes_with_the_last_version_of_its_files(
    start: Start, tmp_path: Path, scratch: Path
) -> None:
    async with start() as platform:
        await pushed(platform, tmp_path, "1")
        await pushed(platform, tmp_path, "2")
        await pushed(platform, tmp_path, "3", seed=9)
        assert len(kept(scratch)) == 2
        await platform.models.delete("wide", "1")
        assert len(kept(scratch)) == 2
        await platform.models.delete("wide", "2")
        assert len(kept(scratch)) == 1
        await platform.models.delete("wide")
        assert kept(scratch) == []


@pytest.mark.parametrize(
    "error",
    [
        WorkerDiedError("the compute process died"),
        OSError("no"),
        ValueError("a defect"),
        TimeoutError(),
    ],
)
async def test_where_it_fails_answers_come_all_the_same_and_it_is_tried_again(
    start: Start,
    tmp_path: Path,
    scratch: Path,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    workers = Watched(error)
    async with start(workers) as platform:
        params = await pushed(platform, tmp_path)
        await check(platform, params)
        await made("wide:1")
        assert kept(scratch) == []
        assert workers.mapped == {""}
        assert "the weights of wide:1 are served as they lie" in caplog.text
        workers.error = None
        await platform.models.unload(ModelRef("wide", "1"))
        await check(platform, params)
        await made("wide:1")
        await check(platform, params)
        assert workers.mapped == {"", *map(str, kept(scratch))}
        await platform.models.delete("wide")


async def test_a_version_deleted_meanwhile_leaves_nothing(
    start: Start, tmp_path: Path, scratch: Path
) -> None:
    workers = Watched()
    async with start(workers) as platform:
        workers.may.clear()
        pushing = asyncio.create_task(pushed(platform, tmp_path))
        await workers.asked.wait()
        await platform.models.delete("wide", "1")
        await pushing
        assert kept(scratch) == []


async def test_a_server_that_stops_meanwhile_does_not_wait(
    start: Start, tmp_path: Path, scratch: Path
) -> None:
    workers = Watched()
    async with asyncio.timeout(20), start(workers, running_jobs=1) as platform:
        workers.may.clear()
        pushing = [
            asyncio.create_task(pushed(platform, tmp_path, version, seed=int(version)))
            for version in ("1", "2")
        ]
        await workers.asked.wait()
    await asyncio.gather(*pushing)
    assert not (scratch / "layouts").exists()


async def test_one_that_is_gone_is_not_needed(start: Start, tmp_path: Path, scratch: Path) -> None:
    async with start() as platform:
        params = await pushed(platform, tmp_path)
        kept(scratch)[0].unlink()
        await check(platform, params)


@pytest.mark.parametrize("does", [True, False])
async def test_what_is_small_or_not_faster_has_none(
    start: Start, tmp_path: Path, scratch: Path, does: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "takes_as_it_lies", lambda: does)
    narrow = Network.from_spec(spec([{"name": "d", "op": "dense", "units": 9}], ["d"], (512,)))
    workers = Watched()
    async with start(workers) as platform:
        await pushed(platform, tmp_path, network=narrow if does else WIDE)
        assert kept(scratch) == []
        assert len(workers.of(LayOut)) == (0 if does else 1)


async def test_where_address_space_is_short_there_is_none(start: Start, tmp_path: Path) -> None:
    workers = Watched()
    async with start(workers, worker_memory_mb=1024) as platform:
        params = await pushed(platform, tmp_path)
        await check(platform, params)
        assert workers.mapped == {""}
        assert not workers.of(LayOut)


async def test_where_the_disk_is_nearly_full_there_is_none(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(layouts, "_LEFT_FREE", 1.0)
    workers = Watched()
    async with start(workers) as platform:
        params = await pushed(platform, tmp_path)
        await check(platform, params)
        assert workers.mapped == {""}
        assert not workers.of(LayOut)
    assert "the disk is nearly full" in caplog.text


@pytest.mark.parametrize("folder", [True, False])
async def test_what_lies_in_its_place_is_no_reason_not_to_start(
    start: Start, tmp_path: Path, scratch: Path, folder: bool
) -> None:
    if folder:
        (scratch / "layouts" / "old" / "older").mkdir(parents=True)
    else:
        (scratch / "layouts").write_text("no folder")
    async with start() as platform:
        params = await pushed(platform, tmp_path)
        await check(platform, params)
        assert (scratch / "layouts").is_dir() is folder


async def made(ref: str) -> None:
    """Wait for a layout that is being made."""
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == f"layout of {ref}"]
    if tasks:
        await asyncio.wait(tasks)
