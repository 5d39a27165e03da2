"""What an operator reads at level info: one line for each change of what is served, and where."""

from __future__ import annotations

import logging

import pytest

from aiaas_async.names import ModelRef
from aiaas_async.registry.records import Traffic
from tests.runtimes.artifacts import BARE
from tests.service.conftest import Start
from tests.service.test_membership import with_doubler


async def test_changes_of_models_deployments_and_nodes_are_one_line_each(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async with start() as platform:
        caplog.set_level(logging.INFO, "aiaas_async")
        await with_doubler(platform)
        body = {"name": "double", "version": "2", "graph": BARE}
        await platform.models.register({**body, "inputs": ["x"], "outputs": ["doubled"]})
        await platform.models.commit(ModelRef("double", "2"))
        split = Traffic("2", 0.25, "2")
        await platform.models.set_alias("double", "live", "1", None, split)
        await platform.models.set_alias("double", "live", "2", None)
        await platform.models.roll_back_alias("double", "live", None)
        await platform.models.delete_alias("double", "live")
        deployed = await platform.deployments.deploy({"model": "double", "version": "1"})
        assert deployed.placement is not None
        node = deployed.placement.nodes[0].id
        await platform.deployments.delete(deployed.id)
        await platform.membership.join("late")
        await platform.membership.leave("late")
        await platform.models.delete("double", "2")
        assert caplog.messages == [
            "double:1 is committed: 0 files, 0 bytes",
            "double:2 is committed: 0 files, 0 bytes",
            "alias double:live is at 1, canary 2 for 0.25 of the calls, shadow 2 (revision 1)",
            "alias double:live is at 2 (revision 2)",
            "alias double:live is at 1 (revision 3)",
            "alias double:live is deleted",
            f"deployment {deployed.id} of double:1 is placed (whole) on {node}",
            f"deployment {deployed.id} of double:1 has ended",
            "node late joined; 0 items moved",
            "node late left; 0 items moved",
            "deleted: double:2",
        ]
