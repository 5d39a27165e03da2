"""Work of several steps gets the node that calls of its version would get."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aiaas_async.errors import DeadlineError
from aiaas_async.names import ModelRef
from aiaas_async.service.seating import Seating
from tests.service.conftest import Start
from tests.service.test_deployments import pushed


async def test_while_its_deployment_moves_it_waits_for_it(start: Start, tmp_path: Path) -> None:
    async with start(nodes=2) as platform:
        await pushed(platform, tmp_path)
        record = platform.models.catalog.version("deep", "1")
        servable = await platform.models.servable(record)
        seating = Seating(platform.cluster, platform.deployments)
        later = asyncio.get_running_loop().time() + 60
        node, seated = await seating.seat(servable, "key", later)
        assert (node, seated) == (platform.cluster.route("key"), servable)
        deployed = await platform.deployments.deploy({"model": "deep"})
        there, deployed.placement = deployed.placement, None
        assert there is not None
        deployed.arrived = asyncio.Event()
        with pytest.raises(DeadlineError, match="was moving"):
            await seating.seat(servable, "key", asyncio.get_running_loop().time())
        waiting = asyncio.create_task(seating.seat(servable, "key", later))
        await asyncio.sleep(0)
        assert platform.deployments.waiting()[ModelRef("deep", "1")] == 1
        deployed.placement = there
        deployed.arrived.set()
        assert await waiting == there.replica()
