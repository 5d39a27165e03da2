"""Long inputs are read beside the loop: large ones take turns, and nobody waits beyond his time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from aiaas_async.errors import DeadlineError
from aiaas_async.service import calls as calls_module
from aiaas_async.service.calls import CallAnswer, CallRequest
from aiaas_async.service.platform import Platform
from aiaas_async.wire.weight import LARGE, MADE_BYTES
from tests.runtimes.artifacts import BARE
from tests.service.conftest import Start
from tests.service.held import Held

LONG = np.ones((MADE_BYTES // 16 + 1, 4), np.uint8)
GIANT = np.ones((LARGE * MADE_BYTES // 16 + 1, 4), np.uint8)


@pytest_asyncio.fixture
async def platform(start: Start) -> AsyncIterator[Platform]:
    async with start() as made:
        names = {"inputs": ["x"], "outputs": ["doubled"]}
        body = {"name": "doubler", "version": "1.0", **names, "graph": BARE}
        record = await made.models.register(body)
        await made.models.commit(record.ref)
        yield made


@pytest.fixture
def held(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Before giants are read."""
    made = Held()

    def of(whole: Any) -> Any:
        def read(*given: Any, **more: Any) -> Any:
            inputs = given[1] if isinstance(given[1], dict) else given[1].inputs
            if len(inputs["x"]) == len(GIANT):
                made()
            return whole(*given, **more)

        return read

    for name in ("_read", "_read_pairs"):
        monkeypatch.setattr(calls_module, name, of(getattr(calls_module, name)))
    yield made
    made.free.set()


def call(platform: Platform, x: Any, timeout_s: float = 30.0) -> asyncio.Task[CallAnswer]:
    request = CallRequest({"x": x}, "doubler", timeout_s=timeout_s)
    return asyncio.create_task(platform.calls.call(request))


async def test_a_long_call_waits_for_no_giant(platform: Platform, held: Held) -> None:
    giant = call(platform, GIANT)
    await held.is_begun()
    answer = await call(platform, LONG)
    np.testing.assert_array_equal(answer.outputs["doubled"], 2.0 * LONG)
    assert not giant.done()
    held.free.set()
    assert len((await giant).outputs["doubled"]) == len(GIANT)


async def test_a_giant_that_has_no_turn_in_its_time_is_told_so(
    platform: Platform, held: Held
) -> None:
    first = call(platform, GIANT)
    await held.is_begun()
    with pytest.raises(DeadlineError, match="not answered within the time this request allowed"):
        await call(platform, GIANT, timeout_s=0.0)
    held.free.set()
    await first
    assert held.most == 1


async def test_so_are_the_inputs_of_a_loss(platform: Platform, held: Held) -> None:
    def loss(x: Any, timeout_s: float) -> Any:
        body = {"inputs": {"x": x}, "targets": {"doubled": x}, "loss": "mse"}
        return platform.calls.differentiate("doubler", "1.0", body, "nothing", timeout_s)

    giant = call(platform, GIANT)
    await held.is_begun()
    _, result = await loss(LONG, 30.0)
    assert result.facts["loss"] == 1.0
    with pytest.raises(DeadlineError, match="not answered within"):
        await loss(GIANT, 0.0)
    held.free.set()
    await giant
    assert held.most == 1


async def test_so_are_those_of_an_answer_in_parts(platform: Platform, held: Held) -> None:
    def stream(x: Any, timeout_s: float) -> Any:
        return platform.calls.stream(CallRequest({"x": x}, "doubler", timeout_s=timeout_s))

    giant = asyncio.create_task(stream(GIANT, 30.0))
    await held.is_begun()
    _, parts = await stream(LONG, 30.0)
    (part,) = [part async for part in parts]
    assert len(part["doubled"]) == len(LONG)
    with pytest.raises(DeadlineError, match="not answered within"):
        await stream(GIANT, 0.0)
    held.free.set()
    _, parts = await giant
    await parts.aclose()
    assert held.most == 1
