"""An alias shares its calls: a canary gets some, a shadow a copy of each."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from aiaas_async.registry.records import AliasRecord, Traffic
from aiaas_async.service.traffic import choose
from tests.http.api import Api
from tests.http.conftest import Served
from tests.http.models import succeed

KEYS = [f"user-{i}" for i in range(4000)]


def graph(factor: float, takes: str) -> dict[str, Any]:
    return {
        "inputs": [{"name": takes, "dtype": "float32", "shape": [1]}],
        "layers": [{"name": "y", "op": "scale", "factor": factor}],
        "outputs": ["y"],
    }


async def commit(api: Api, version: str, factor: float, takes: str = "x") -> None:
    metadata = {"name": "m", "version": version, "inputs": [takes], "outputs": ["y"]}
    assert (await api.post("/register", {**metadata, "graph": graph(factor, takes)})).status == 200
    assert (await api.post(f"/models/m/versions/{version}/commit")).status == 200


async def versions_called(api: Api, count: int, **more: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for _ in range(count):
        body = {"model": "m", "version": "live", "inputs": {"x": [1.0]}, **more}
        reply = await api.post("/call", body)
        assert reply.status == 200, reply.value
        found[reply.value["version"]] += 1
    return found


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 1.0])
def test_the_canary_gets_its_share_of_keys(weight: float) -> None:
    alias = AliasRecord("m", "live", "1", 1, traffic=Traffic("2", weight))
    share = sum(choose(alias, key) == "2" for key in KEYS) / len(KEYS)
    assert abs(share - weight) < 0.03


def test_a_key_always_goes_to_the_same_side() -> None:
    alias = AliasRecord("m", "live", "1", 1, traffic=Traffic("2", 0.5))
    assert all(choose(alias, key) == choose(alias, key) for key in KEYS)


def test_raising_the_weight_takes_no_key_back_from_the_canary() -> None:
    few, more = (AliasRecord("m", "live", "1", 1, traffic=Traffic("2", w)) for w in (0.2, 0.4))
    assert all(choose(more, key) == "2" for key in KEYS if choose(few, key) == "2")


async def test_calls_are_shared_by_weight(served: Served) -> None:
    api = served.api
    await commit(api, "1", 1.0)
    await commit(api, "2", 2.0)
    alias = {"version": "1", "canary": "2", "weight": 0.5}
    reply = await api.put("/models/m/aliases/live", alias)
    assert reply.value["canary"] == "2"
    found = await versions_called(api, 60)
    assert found["1"] > 5
    assert found["2"] > 5
    assert len(await versions_called(api, 10, key="user-1")) == 1
    await api.put("/models/m/aliases/live", {"version": "2"})
    assert set(await versions_called(api, 10)) == {"2"}


async def statistics_of(api: Api, version: str) -> dict[str, int]:
    shown = (await succeed(api.get(f"/v2/models/m/versions/{version}/stats"))).value
    row = shown["model_stats"][0]
    kinds = ("success", "fail", "queue", "compute_infer")
    counts = {kind: row["inference_stats"][kind]["count"] for kind in kinds}
    return {**counts, "inference_count": row["inference_count"]}


async def test_a_shadow_gets_a_copy_whose_answer_nobody_sees(served: Served) -> None:
    api = served.api
    await commit(api, "1", 1.0)
    await commit(api, "2", 2.0)
    await api.put("/models/m/aliases/live", {"version": "1", "shadow": "2"})
    assert await versions_called(api, 10) == {"1": 10}
    shadows = served.platform.calls.shadows
    await shadows.settled()
    assert (shadows.statistics.answered, shadows.statistics.failed) == (10, 0)
    counted = await statistics_of(api, "2")
    assert counted == await statistics_of(api, "1")
    assert (counted["inference_count"], counted["success"], counted["fail"]) == (10, 10, 0)


async def test_a_shadow_that_fails_harms_no_call(served: Served) -> None:
    api = served.api
    await commit(api, "1", 1.0)
    await commit(api, "2", 1.0, takes="z")
    await api.put("/models/m/aliases/live", {"version": "1", "shadow": "2"})
    assert await versions_called(api, 3) == {"1": 3}
    shadows = served.platform.calls.shadows
    await shadows.settled()
    assert shadows.statistics.failed == 3
    assert (await statistics_of(api, "2"))["fail"] == 3


@pytest.mark.parametrize(
    ("alias", "status", "said"),
    [
        ({"version": "1", "canary": "9", "weight": 0.5}, 404, "9"),
        ({"version": "1", "shadow": "9"}, 404, "9"),
        ({"version": "1", "canary": "1", "weight": 2}, 422, "weight"),
        ({"version": "1", "canary": "1", "weight": 0.5}, 422, "own version"),
        ({"version": "1", "weight": 0.5}, 422, "there is no canary"),
        ({"version": "2"}, 409, "m:2 is registered, not ready: commit its files first"),
        ({"version": "1", "canari": "1"}, 422, "canari"),
    ],
)
async def test_a_split_that_cannot_be_is_refused(
    served: Served, alias: dict[str, Any], status: int, said: str
) -> None:
    await commit(served.api, "1", 1.0)
    draft = {"name": "m", "version": "2", "inputs": ["x"], "outputs": ["y"]}
    await served.api.post("/register", draft)
    reply = await served.api.put("/models/m/aliases/live", alias)
    assert reply.status == status
    assert said in reply.detail


async def test_a_version_that_an_alias_shares_its_calls_with_is_not_deleted(
    served: Served,
) -> None:
    api = served.api
    await commit(api, "1", 1.0)
    await commit(api, "2", 2.0)
    await api.put("/models/m/aliases/live", {"version": "1", "canary": "2", "weight": 0.1})
    assert (await api.delete("/models/m/versions/2")).status == 409
