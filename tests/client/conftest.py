"""A stub server, and a client of it that does not wait long between tries."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from aiaas_async import AsyncClient
from tests.client.stub import QUICK, Stub, running


@pytest_asyncio.fixture
async def stub() -> AsyncIterator[Stub]:
    async with running() as stub:
        yield stub


@pytest_asyncio.fixture
async def client(stub: Stub) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(stub.url, 10.0, QUICK) as client:
        yield client
