"""A server in the test's own loop, with workers in the loop: no process is started."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from aiaas_async.compute.base import WorkerSource
from aiaas_async.compute.inloop import InLoopWorkers
from aiaas_async.config import Settings
from aiaas_async.http.server import running_server
from aiaas_async.service.platform import Platform
from aiaas_async.wire.codecs import JSON, MSGPACK, Codec
from tests.folders import in_memory
from tests.http.api import Api
from tests.http.held import HeldWorkers
from tests.http.models import commit_doubler


@dataclass(frozen=True, slots=True)
class Served:
    """A running server, and how to speak to it in JSON."""

    platform: Platform
    url: str
    api: Api

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def speaking(self, codec: Codec) -> Api:
        return Api(self.api.session, self.url, codec, self.platform.settings.data_dir)


def settings(folder: Path, **changes: Any) -> Settings:
    """Small, so that limits are reached by small tests."""
    few: dict[str, Any] = {"port": 0, "data_dir": str(folder), "nodes": 2, "max_body_mb": 2}
    return Settings(**{**few, "points_per_node": 16, "grace_s": 1.0, **changes})


# What is compressed, its own tests ask for.
PLAIN = {"Accept-Encoding": "identity"}


@asynccontextmanager
async def serving(
    folder: Path, workers: WorkerSource | None = None, **changes: Any
) -> AsyncIterator[Served]:
    async with (
        running_server(settings(folder, **changes), workers or InLoopWorkers()) as (platform, url),
        aiohttp.ClientSession(auto_decompress=False, headers=PLAIN) as session,
    ):
        yield Served(platform, url, Api(session, url, JSON, str(folder)))


@pytest_asyncio.fixture
async def served(scratch: Path, request: Any) -> AsyncIterator[Served]:
    """Settings may be changed: `@pytest.mark.parametrize("served", [{…}], indirect=True)`."""
    async with serving(scratch, **getattr(request, "param", {})) as started:
        yield started


@pytest.fixture(params=["json", "msgpack"])
def api(served: Served, request: Any) -> Api:
    """The same server in each of the two encodings."""
    return served.speaking(JSON if request.param == "json" else MSGPACK)


# For tests of `common`: it lives as long as a module's tests, and so does its loop.
IN_COMMON = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def common() -> AsyncIterator[Served]:
    """A server for many tests (one of its own costs each 15 ms): of what it refuses, and which
    leaves nothing behind. Its loop stands still between them, which is no stall."""
    with in_memory() as folder:
        async with serving(folder, stall_ms=60_000.0) as started:
            yield started


@pytest.fixture(params=["json", "msgpack"])
def common_api(common: Served, request: Any) -> Api:
    """`common` in each of the two encodings."""
    return common.speaking(JSON if request.param == "json" else MSGPACK)


@pytest_asyncio.fixture
async def workers() -> HeldWorkers:
    """Those of `held`."""
    return HeldWorkers()


@pytest_asyncio.fixture
async def held(scratch: Path, workers: HeldWorkers, request: Any) -> AsyncIterator[Served]:
    """One node with a mailbox of two places, whose worker finishes no call by itself. Settings may
    be changed as those of `served`."""
    few = {"nodes": 1, "mailbox_items": 2, "max_batch_size": 1, "access_log": True}
    changed = settings(scratch, **few, **getattr(request, "param", {}))
    async with (
        running_server(changed, workers) as (platform, url),
        aiohttp.ClientSession() as session,
    ):
        served = Served(platform, url, Api(session, url, JSON, str(scratch)))
        await commit_doubler(served.api)
        yield served
        workers.release()
