"""Priorities of the Open Inference Protocol, where the nodes' schedule goes by them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from aiaas_async.http.server import running_server
from aiaas_async.wire.codecs import JSON
from tests.http.api import Api
from tests.http.conftest import PLAIN, Served, settings
from tests.http.held import HeldWorkers
from tests.http.models import commit_doubler
from tests.http.v2asking import INFER, ask, tensor
from tests.http.v2server import serving


async def test_priorities_are_announced_where_they_count(scratch: Path) -> None:
    async with serving(scratch, {}, schedule="priority") as served:
        extensions = (await ask(served, "GET", "/v2")).value["extensions"]
        assert "schedule_policy" in extensions


async def test_the_lowest_priority_goes_first_and_what_names_none_goes_last(
    scratch: Path,
) -> None:
    held = HeldWorkers()
    async with (
        running_server(settings(scratch, nodes=1, schedule="priority"), held) as (platform, url),
        aiohttp.ClientSession(auto_decompress=False, headers=PLAIN) as session,
    ):
        served = Served(platform, url, Api(session, url, JSON, str(scratch)))
        await commit_doubler(served.api)
        (node,) = platform.cluster.nodes.values()
        done: list[int | None] = []

        async def call(priority: int | None, rows: int) -> None:
            """Of its own number of rows, and too many to share a batch."""
            named = {} if priority is None else {"priority": priority}
            x = [[0.0] * 4] * rows
            body = {"inputs": [tensor(x, shape=[rows, 4])], "parameters": named}
            assert (await ask(served, "POST", INFER, body)).status == 200
            done.append(priority)

        tasks = []
        for load, (priority, rows) in enumerate(
            [(None, 32), (None, 31), (None, 32), (None, 31), (9, 32), (2**63, 31), (1, 32)], 1
        ):
            tasks.append(asyncio.create_task(call(priority, rows)))
            while True:
                if node.load == load:
                    break
                await asyncio.sleep(0)
        held.release()
        await asyncio.gather(*tasks)
    waited = [priority for priority in done if priority is not None]
    assert waited == [1, 9, 2**63]
    assert done.index(1) <= 3  # two were with the worker, and one on its way, when it came
