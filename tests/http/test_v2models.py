"""What this protocol keeps of models does not outgrow the models there are, and is told
without asking a node twice."""

from __future__ import annotations

from typing import Any

import pytest

from aiaas_async.http import v2models
from aiaas_async.http.v2models import OpenInference
from aiaas_async.node.node import Node
from tests.http.conftest import Served
from tests.http.models import commit_doubler
from tests.http.v2asking import ask


async def test_what_was_unloaded_is_forgotten_once_it_is_deleted(served: Served) -> None:
    models, known = served.platform.models, OpenInference()
    for name in ("a", "b", "c"):
        await commit_doubler(served.api, name)
        record = models.catalog.version(name, "1.0")
        known.unload(models.catalog.model(name), models.catalog.versions())
        assert not known.is_ready(record)
        if name != "c":
            await models.delete(name)
    assert len(known._unloaded) == 1
    assert not known.is_ready(record)


async def test_what_requests_are_checked_against_is_kept_for_so_many_versions(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v2models, "MAX_KEPT", 2)
    known = OpenInference()
    for name in ("a", "b", "c", "d", "e"):
        await commit_doubler(served.api, name)
        record = served.platform.models.catalog.version(name, "1.0")
        assert known.model_for(record).name == name
        assert known.model_for(record) is known.model_for(record)
        assert len(known._models) <= 2


async def test_statistics_of_many_versions_ask_each_node_once(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        await commit_doubler(served.api, name)
    await served.platform.calls.load("b", "1.0", pin=False, timeout_s=20)
    status, asked = Node.status, list[str]()

    def counted(self: Node) -> Any:
        asked.append(self.id)
        return status(self)

    monkeypatch.setattr(Node, "status", counted)
    rows = (await ask(served, "GET", "/v2/models/stats")).value["model_stats"]
    assert sorted(asked) == sorted(served.platform.cluster.nodes)
    assert [(row["name"], len(row["memory_usage"])) for row in rows] == [
        ("a", 0),
        ("b", 1),
        ("c", 0),
    ]
