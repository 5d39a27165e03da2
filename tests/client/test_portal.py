"""The loop in a thread of its own ends when it is told, and not before what it has begun to end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from aiaas_async.client.portal import Portal


async def nothing() -> None: ...


def test_what_an_interrupt_cancelled_cleans_up_before_the_end() -> None:
    portal, begun, done = Portal(), threading.Event(), list[str]()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            for _ in range(20):  # as a push that takes back what it registered
                await asyncio.sleep(0)
            done.append("cleaned up")

    def told(*_: int) -> None:
        raise KeyboardInterrupt

    async def telling(tell: object) -> None:
        assert callable(tell)
        tell(1, 2)
        await work()

    with pytest.raises(KeyboardInterrupt):
        portal.run_telling(telling, told)
    assert begun.wait(10)
    portal.close(nothing)
    assert done == ["cleaned up"]


def test_what_nobody_cancelled_is_cancelled_at_the_end() -> None:
    portal, begun, ended = Portal(), threading.Event(), list[str]()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    def run() -> None:
        with pytest.raises(RuntimeError, match="closed while it was asked"):
            portal.run(work())

    other = threading.Thread(target=run)
    other.start()
    assert begun.wait(10)
    portal.close(nothing)
    other.join(10)
    assert ended == ["cancelled"]
