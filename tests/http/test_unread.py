"""Long lists of numbers that a worker reads: the same answers, the same refusals, in every way
that a version is served."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from aiaas_async.compute import host
from aiaas_async.wire import unread
from aiaas_async.wire.tensors import Array
from tests.http.conftest import Served
from tests.http.models import commit_doubler, doubler, succeed
from tests.http.v2asking import INFER, Answer, ask, body_of

ROWS = 300  # of four numbers: a body of 6 KB
SHORT = 2


def body(rows: int, *last: Any, **more: Any) -> dict[str, Any]:
    """A request for `rows` rows of quarters, the last one's numbers as given."""
    data: list[Any] = [[0.25, -0.25, 1.75, 100.125]] * (rows - 1) + [list(last) or [1.0] * 4]
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 4], "data": data}
    return {"inputs": [{**tensor, **more}]}


def doubles(rows: int) -> list[float]:
    return [0.5, -0.5, 3.5, 200.25] * (rows - 1) + [2.0] * 4


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each text was read where it was left to be: workers run in the loop here."""
    seen: list[bool] = []
    fill = unread._fill

    def seeing(part: Array, text: Array) -> None:
        fill(part, text)
        seen.append(bool(np.isfinite(part).all()))

    monkeypatch.setattr(unread, "_fill", seeing)
    return seen


async def data_of(served: Served, asked: Any, path: str = INFER) -> list[float]:
    answer = await ask(served, "POST", path, asked)
    assert answer.status == 200, answer.value
    found: list[float] = answer.value["outputs"][0]["data"]
    return found


async def test_a_long_list_is_read_by_the_worker(served: Served, reads: list[bool]) -> None:
    await commit_doubler(served.api)
    assert await data_of(served, body(ROWS)) == doubles(ROWS)
    assert reads == [True]
    assert await data_of(served, body(SHORT)) == doubles(SHORT)
    assert reads == [True]  # a short one by the loop


async def test_a_bad_list_fails_alone(served: Served, reads: list[bool]) -> None:
    await commit_doubler(served.api)
    asked = [body(ROWS), body(ROWS, 1, 2, "x", 4), body(ROWS)]
    answers = await asyncio.gather(*(ask(served, "POST", INFER, each) for each in asked))
    assert [answer.status for answer in answers] == [200, 400, 200]
    assert answers[0].value["outputs"][0]["data"] == doubles(ROWS)
    stats = await ask(served, "GET", "/v2/models/doubler/stats")
    counts = stats.value["model_stats"][0]["inference_stats"]
    assert (counts["success"]["count"], counts["fail"]["count"]) == (2, 1)
    assert sorted(reads)[-2:] == [True, True]


WRONG: dict[str, tuple[Any, ...]] = {
    "a text": (1, 2, "x", 4),
    "nothing": (1, 2, None, 4),
    "too few": (1, 2, 3),
    "too many": (1, 2, 3, 4, 5),
    "too large for float32": (1, 2, 3, 1e39),
    "too large for any float": (1, 2, 3, 10**400),
    "nested too deep": (1, 2, [3], 4),
}


@pytest.mark.parametrize("what", WRONG)
async def test_what_is_wrong_is_told_as_for_a_short_list(served: Served, what: str) -> None:
    await commit_doubler(served.api)

    async def told(rows: int) -> tuple[int, str]:
        answer: Answer = await ask(served, "POST", INFER, body(rows, *WRONG[what]))
        return answer.status, answer.error.replace(f"[{rows - 1}, 3]", "[the last, 3]")

    status, error = await told(ROWS)
    assert (status, error) == await told(SHORT)
    assert status == 400


@pytest.mark.parametrize("spoilt", [b"]} ", b",]]}", b"]]]}"])
async def test_what_is_no_json_is_refused(served: Served, spoilt: bytes) -> None:
    await commit_doubler(served.api)
    raw = json.dumps(body(ROWS)).encode().replace(b"]]}", spoilt)
    answer = await ask(served, "POST", INFER, raw)
    assert answer.status == 400
    assert answer.error.startswith("failed to parse the request JSON buffer")


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"replicas": 2},
        {"cache_mb": 1},
    ],
    ids=["deployed", "twice", "with a cache"],
)
async def test_a_deployed_version_gets_arrays(
    served: Served, reads: list[bool], asked: dict[str, Any]
) -> None:
    await commit_doubler(served.api)
    await succeed(served.api.post("/deployments", {"model": "doubler", **asked}))
    for _ in range(2):
        assert await data_of(served, body(ROWS)) == doubles(ROWS)
    assert reads == []


async def test_a_shadow_gets_what_its_alias_does(served: Served, reads: list[bool]) -> None:
    await commit_doubler(served.api)
    await succeed(served.api.post("/register", doubler(version="2")))
    await succeed(served.api.post("/models/doubler/versions/2/commit"))
    traffic = {"version": "1.0", "shadow": "2"}
    await succeed(served.api.put("/models/doubler/aliases/live", traffic))
    found = await data_of(served, body(ROWS), "/v2/models/doubler/versions/live/infer")
    assert found == doubles(ROWS)
    await served.platform.calls.shadows.settled()
    assert served.platform.calls.shadows.statistics.answered == 1
    assert reads == []


MANY = 5000  # rows of four numbers: 80 KB, which do not come at once


def numbers(first: float = 0.0) -> Array:
    return np.arange(first, first + 4 * MANY, dtype=np.float32).reshape(MANY, 4)


async def binary(served: Served, x: Array, path: str = INFER) -> Answer:
    tensor: dict[str, Any] = {"name": "x", "shape": list(x.shape), "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": x.nbytes}
    asked = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    body, headers = body_of(asked, x.tobytes())
    return await ask(served, "POST", path, body, headers)


@pytest.fixture
def raws(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many calls' bytes were read together where they were left to be."""
    seen: list[int] = []

    def seeing(body: Array, item: Any, sizes: Any) -> Any:
        seen.append(len(sizes))
        return unread.read_raw(body, item, sizes)

    monkeypatch.setattr(host, "read_raw", seeing)
    return seen


async def test_long_bytes_are_read_by_the_worker_once_their_form_is_known(
    served: Served, raws: list[int]
) -> None:
    await commit_doubler(served.api)
    for first in (0.0, 7.0, 9.0):
        answer = await binary(served, numbers(first))
        assert answer.status == 200
        assert answer.rest == (2 * numbers(first)).tobytes()
    assert raws == [1, 1]
    assert (await binary(served, numbers()[:2])).rest == (2 * numbers()[:2]).tobytes()
    assert raws == [1, 1]


async def test_bytes_that_are_not_finite_are_refused_as_before_and_alone(
    served: Served, raws: list[int]
) -> None:
    await commit_doubler(served.api)
    bad = numbers()
    bad[3, 2] = np.nan
    first = await binary(served, bad)
    assert (first.status, raws) == (400, [])
    assert "holds nan at [3, 2]" in first.error
    assert (await binary(served, numbers())).status == 200
    answers = await asyncio.gather(*(binary(served, x) for x in (numbers(), bad, numbers(1.0))))
    assert raws
    assert [answer.status for answer in answers] == [200, 400, 200]
    assert answers[1].error == first.error
    assert answers[2].rest == (2 * numbers(1.0)).tobytes()


async def test_a_version_that_takes_nan_gets_arrays(served: Served, raws: list[int]) -> None:
    await commit_doubler(served.api, allow_nonfinite=True)
    bad = numbers()
    bad[3, 2] = np.nan
    for _ in range(2):
        assert (await binary(served, bad)).rest == (2 * bad).tobytes()
    assert raws == []


async def test_bytes_and_json_of_one_input_go_in_batches_of_their_own(
    served: Served, raws: list[int], reads: list[bool]
) -> None:
    await commit_doubler(served.api)
    await binary(served, numbers())
    found = await asyncio.gather(
        binary(served, numbers()), data_of(served, body(ROWS)), binary(served, numbers(1.0))
    )
    assert found[0].rest == (2 * numbers()).tobytes()
    assert found[1] == doubles(ROWS)
    assert found[2].rest == (2 * numbers(1.0)).tobytes()
    assert (sum(raws), reads) == (2, [True])


async def test_a_deployed_version_gets_arrays_of_long_bytes(
    served: Served, raws: list[int]
) -> None:
    await commit_doubler(served.api)
    await succeed(served.api.post("/deployments", {"model": "doubler", "cache_mb": 1}))
    for _ in range(2):
        assert (await binary(served, numbers())).rest == (2 * numbers()).tobytes()
    assert raws == []
