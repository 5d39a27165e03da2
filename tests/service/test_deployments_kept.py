"""What is deployed stays so, over restarts and whatever fails, until it is ended on purpose."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiaas_async.errors import StorageError
from aiaas_async.names import ModelRef
from aiaas_async.node.work import Call, WorkItem
from aiaas_async.service.deployment import Deployment
from aiaas_async.service.deploymentfile import DeploymentFile, Stored
from aiaas_async.service.deployments import Deployments
from aiaas_async.service.platform import Platform
from tests.runtimes.artifacts import BARE
from tests.service.conftest import Start
from tests.service.gate import Gate


async def committed(platform: Platform, versions: str) -> None:
    body = {"name": "double", "inputs": ["x"], "outputs": ["doubled"], "graph": BARE}
    for version in versions:
        await platform.models.register({**body, "version": version})
        await platform.models.commit(ModelRef("double", version))


def asked(version: str = "1", **more: Any) -> dict[str, Any]:
    return {"model": "double", "version": version, **more}


def states(platform: Platform) -> dict[str, str]:
    """By version."""
    return {each.ref.version: each.state for each in platform.deployments.all()}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - whatever holds has no event of its own
            await asyncio.sleep(0)


def check_freed(platform: Platform) -> None:
    """Nothing is pinned, and all memory is to be had."""
    for node in platform.cluster.nodes.values():
        assert node.status()["pinned"] == []
        assert node.free_bytes == node.budget_bytes


class Held:
    """Placing again what was deployed waits until it is `free`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.free = asyncio.Event(), asyncio.Event()
        whole = Deployments._replace

        async def held(deployments: Deployments, deployment: Deployment) -> None:
            self.reached.set()
            await self.free.wait()
            await whole(deployments, deployment)

        monkeypatch.setattr(Deployments, "_replace", held)


async def test_what_is_deployed_while_others_are_placed_again_forgets_none_of_them(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as platform:
        await committed(platform, "1234")
        for version in "123":
            await platform.deployments.deploy(asked(version))
    with monkeypatch.context() as patch:
        held = Held(patch)
        async with start() as platform:
            await held.reached.wait()
            fourth = asyncio.create_task(platform.deployments.deploy(asked("4")))
            assert platform.deployments.uses(ModelRef("double", "3")) is not None
            held.free.set()
            await fourth
    async with start() as platform:
        await platform.deployments.restored.wait()
        assert states(platform) == dict.fromkeys("1234", "ready")


async def test_a_deployment_before_any_other_is_placed_again_forgets_none_of_them(
    start: Start,
) -> None:
    async with start() as platform:
        await committed(platform, "12")
        await platform.deployments.deploy(asked("1"))
    async with start() as platform:
        await platform.deployments.deploy(asked("2"))  # its first step comes before the restoring
    async with start() as platform:
        await platform.deployments.restored.wait()
        assert states(platform) == dict.fromkeys("12", "ready")


async def test_one_that_is_ended_before_it_is_placed_again_stays_ended(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as platform:
        await committed(platform, "12")
        first = await platform.deployments.deploy(asked("1"))
        second = await platform.deployments.deploy(asked("2"))
    held = Held(monkeypatch)
    async with start() as platform:
        await held.reached.wait()
        ending = asyncio.create_task(platform.deployments.delete(second.id))
        held.free.set()
        await ending
        await platform.deployments.restored.wait()
        assert [each.id for each in platform.deployments.all()] == [first.id]


async def test_what_cannot_be_placed_at_a_restart_is_kept_and_says_why(start: Start) -> None:
    async with start(nodes=2) as platform:
        await committed(platform, "12")
        await platform.deployments.deploy(asked("1", replicas=2))
    async with start(nodes=1) as platform:
        await platform.deployments.restored.wait()
        await platform.deployments.deploy(asked("2"))
        assert states(platform) == {"1": "failed", "2": "ready"}
        assert "2" in (platform.deployments.all()[0].reason or "")
    async with start(nodes=2) as platform:
        await platform.deployments.restored.wait()
        assert states(platform) == dict.fromkeys("12", "ready")


async def test_a_file_that_cannot_be_read_is_put_aside_and_not_overwritten(
    start: Start, scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with start() as platform:
        await committed(platform, "1")
    (scratch / "deployments.json").write_bytes(b"[{")
    async with start() as platform:
        await platform.deployments.deploy(asked("1"))
    assert (scratch / "deployments.json.damaged").read_bytes() == b"[{"
    assert "is put aside as deployments.json.damaged" in caplog.text


async def crowd(platform: Platform, version: str) -> list[WorkItem]:
    """Calls that wait at the only node, whose mailbox takes one, and that the worker holds."""
    node = platform.cluster.nodes["node-0"]
    model = await platform.models.servable(platform.models.catalog.version("double", version))
    deadline = asyncio.get_running_loop().time() + 60
    x, calls = np.ones((1, 4), np.float32), list[WorkItem]()
    while len(calls) < 2:
        calls.append(node.submit(Call(model, {"x": x}, 1), 0, deadline))
        if len(calls) < 2:
            await until(lambda: not node.waiting())
    return calls


async def test_one_that_ends_while_its_nodes_mailbox_is_full_is_freed(start: Start) -> None:
    gate = Gate(after=0)
    async with start(gate, nodes=1, mailbox_items=1) as platform:
        await committed(platform, "12")
        deployed = await platform.deployments.deploy(asked("1"))
        calls = await crowd(platform, "2")
        await platform.deployments.delete(deployed.id)
        gate.open.set()
        await platform.deployments.settled()
        check_freed(platform)
        await asyncio.gather(*(each.reply for each in calls))


async def test_a_version_is_deleted_whole_while_mailboxes_are_full(start: Start) -> None:
    gate = Gate(after=0)
    async with start(gate, nodes=1, mailbox_items=1) as platform:
        await committed(platform, "12")
        await platform.calls.load("double", "1", pin=True, timeout_s=60)
        calls = await crowd(platform, "2")
        deleting = asyncio.create_task(platform.models.delete("double", "1"))
        await until(lambda: "1" not in platform.models.catalog.model("double").versions)
        assert not deleting.done()
        gate.open.set()
        await deleting
        check_freed(platform)
        await asyncio.gather(*(each.reply for each in calls))


def pinned(platform: Platform) -> list[str]:
    return [one for node in platform.cluster.nodes.values() for one in node.status()["pinned"]]


async def test_a_deployment_that_cannot_be_written_down_leaves_all_as_it_was(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: DeploymentFile, __: Sequence[Stored]) -> None:
        raise StorageError("no space left")

    async with start() as platform:
        await committed(platform, "12")
        first = await platform.deployments.deploy(asked("1"))
        before = pinned(platform)
        with monkeypatch.context() as patch:
            patch.setattr(DeploymentFile, "write", full)
            for version in "12":
                with pytest.raises(StorageError):
                    await platform.deployments.deploy(asked(version))
            with pytest.raises(StorageError):
                await platform.deployments.delete(first.id)
        await platform.deployments.settled()
        assert platform.deployments.all() == [first]
        assert (first.state, pinned(platform)) == ("ready", before)
    async with start() as platform:
        await platform.deployments.restored.wait()
        assert [each.id for each in platform.deployments.all()] == [first.id]


class SlowFile:
    """The file is written when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.free = asyncio.Event(), threading.Event()
        loop, whole = asyncio.get_running_loop(), DeploymentFile.write

        def write(file: DeploymentFile, deployed: Sequence[Stored]) -> None:
            loop.call_soon_threadsafe(self.reached.set)
            assert self.free.wait(5)
            whole(file, deployed)

        monkeypatch.setattr(DeploymentFile, "write", write)

    async def hang_up(self, asking: asyncio.Task[Any]) -> None:
        """Who asked goes away, twice, while the file is written."""
        await self.reached.wait()
        for _ in range(2):
            asking.cancel()
            await asyncio.sleep(0)
        self.free.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
        self.reached.clear()
        self.free.clear()


async def test_who_hangs_up_while_it_is_written_down_leaves_no_change_half_done(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(nodes=1) as platform:
        await committed(platform, "1")
        deployments = platform.deployments
        first = await deployments.deploy(asked("1"))
        with monkeypatch.context() as patch:
            slow = SlowFile(patch)
            await slow.hang_up(asyncio.create_task(deployments.deploy(asked("1", max_delay_ms=1))))
            await deployments.settled()
            (second,) = deployments.all()
            assert (second.id, second.spec.max_delay_ms) == (first.id, 1)
            assert second.placement is not None
            assert pinned(platform) == [each.id for each in second.placement.servables]
            await slow.hang_up(asyncio.create_task(deployments.delete(first.id)))
        await deployments.settled()
        assert deployments.all() == []
        check_freed(platform)
    async with start() as platform:
        await platform.deployments.restored.wait()
        assert platform.deployments.all() == []


async def test_a_stop_waits_for_a_change_that_is_being_written_down(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(nodes=1) as platform:
        await committed(platform, "1")
        deployments = platform.deployments
        slow = SlowFile(monkeypatch)
        deploying = asyncio.create_task(deployments.deploy(asked("1")))
        await slow.reached.wait()
        stopping = asyncio.create_task(deployments.stop(10.0))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not stopping.done()
        slow.free.set()
        await stopping
        assert deploying.done()
