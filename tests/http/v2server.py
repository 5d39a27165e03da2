"""A server in the test's own loop with the runtimes of the Open Inference Protocol's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from aiaas_async.compute.inloop import InLoopWorkers
from aiaas_async.http.server import running_server
from aiaas_async.wire.codecs import JSON
from tests.http.api import Api
from tests.http.conftest import PLAIN, Served, settings
from tests.http.models import OCTETS, succeed


@asynccontextmanager
async def serving(
    folder: Path, runtimes: Mapping[str, str], *models: dict[str, Any], **changes: Any
) -> AsyncIterator[Served]:
    """A server that has committed `models`; `changes` are settings."""
    async with (
        running_server(settings(folder, **changes), InLoopWorkers(runtimes)) as (platform, url),
        aiohttp.ClientSession(auto_decompress=False, headers=PLAIN) as session,
    ):
        served = Served(platform, url, Api(session, url, JSON, str(folder)))
        for metadata in models:
            await commit(served, metadata)
        yield served


async def commit(served: Served, metadata: dict[str, Any]) -> None:
    """Register and commit a model whose runtime asks for no file in particular."""
    version = f"/models/{metadata['name']}/versions/{metadata['version']}"
    await succeed(served.api.post("/register", metadata))
    if "graph" not in metadata:
        await succeed(served.api.put(f"{version}/files/any", raw=b"any", headers=OCTETS))
    await succeed(served.api.post(f"{version}/commit"))
