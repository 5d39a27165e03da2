"""A query over many versions keeps nobody else waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from aiaas_async.discovery.match import Matches, match
from aiaas_async.discovery.query import Query
from aiaas_async.errors import NoMatchError
from aiaas_async.registry.catalog import Catalog
from aiaas_async.registry.draft import Draft
from aiaas_async.service import models as models_module
from aiaas_async.service.models import MATCHED_AT_ONCE, Models
from tests.registry.build import add_ready
from tests.service.conftest import Start
from tests.service.held import Held


class Threads:
    """Those that queries were matched in, and how many of them at once."""

    def __init__(self) -> None:
        self.used: list[threading.Thread] = []
        self.at_once = 0
        self._now = 0

    def match(self, catalog: Catalog, query: Query) -> Matches:
        self.used.append(threading.current_thread())
        self._now += 1
        self.at_once = max(self.at_once, self._now)
        try:
            return match(catalog, query)
        finally:
            self._now -= 1


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    found = Threads()
    monkeypatch.setattr(models_module, "match", found.match)
    return found


@pytest_asyncio.fixture
async def models(start: Start, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Models]:
    """With one version more than are matched at once."""
    draft = Draft(Catalog())
    for number in range(MATCHED_AT_ONCE + 1):
        add_ready(draft, f"m{number}", "1.0")
    catalog = draft.catalog()
    async with start() as platform:
        monkeypatch.setattr(Models, "catalog", property(lambda _: catalog))
        yield platform.models
        monkeypatch.undo()


async def test_many_versions_are_matched_beside_the_loop_one_query_at_a_time(
    models: Models, threads: Threads
) -> None:
    every = [models.discover(Query.parse({"version": ">=1.0"})) for _ in range(3)]
    assert [found.total for found in await asyncio.gather(*every)] == [MATCHED_AT_ONCE + 1] * 3
    assert len(threads.used) == 3
    assert threading.main_thread() not in threads.used
    assert threads.at_once == 1


async def test_it_is_one_at_a_time_though_those_who_asked_go_away(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held()
    monkeypatch.setattr(models_module, "match", lambda *_: held())
    first = asyncio.create_task(models.discover(Query.parse({"version": ">=1.0"})))
    await held.is_begun()
    first.cancel()
    second = asyncio.create_task(models.discover(Query.parse({"version": ">=1.0"})))
    for _ in range(3):
        await asyncio.sleep(0)
    held.free.set()
    await asyncio.wait([first, second])
    assert held.most == 1


@pytest.mark.parametrize("query", [{"tags": ["none"]}, {"name": "m-1"}])
async def test_what_many_versions_do_not_meet_is_told_as_ever(
    models: Models, threads: Threads, query: dict[str, Any]
) -> None:
    with pytest.raises(NoMatchError, match="no "):
        await models.discover(Query.parse(query))
    assert threading.main_thread() not in threads.used


async def test_a_model_of_few_versions_is_matched_at_once(models: Models, threads: Threads) -> None:
    assert (await models.discover(Query.parse({"name": "m7"}))).total == 1
    assert threads.used == [threading.main_thread()]
