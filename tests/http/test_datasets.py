"""/datasets: declare, fill, read, delete."""

from __future__ import annotations

from typing import Any

import pytest

from tests.http.api import Api
from tests.http.models import succeed

COLUMNS = {"x": {"dtype": "float32", "shape": [2]}, "y": {"dtype": "int64", "shape": []}}
ITEMS = {"keys": ["a", "b", "c"], "columns": {"x": [[0, 1], [2, 3], [4, 5]], "y": [0, 1, 2]}}


async def filled(api: Api) -> None:
    await succeed(api.put("/datasets/d", {"columns": COLUMNS}))
    await succeed(api.post("/datasets/d/items", ITEMS))


async def test_declaring_is_201_and_the_same_again_200(api: Api) -> None:
    first = await api.put("/datasets/d", {"columns": COLUMNS})
    again = await api.put("/datasets/d", {"columns": COLUMNS})
    assert (first.status, again.status) == (201, 200)
    other = await api.put("/datasets/d", {"columns": {"x": {"dtype": "int8", "shape": []}}})
    assert (other.status, other.code) == (409, "conflict")


async def test_items_come_back_by_key_and_in_pages(api: Api) -> None:
    await filled(api)
    one = await api.get("/datasets/d/items?key=b")
    assert one.value["key"] == "b"
    first = (await api.get("/datasets/d/items?limit=2")).value
    assert first["keys"] == ["a", "b"]
    rest = (await api.get(f"/datasets/d/items?limit=2&after={first['next']}")).value
    assert (rest["keys"], rest["next"]) == (["c"], None)
    assert (await api.get("/datasets")).value["datasets"][0]["count"] == 3
    assert len((await api.get("/datasets/d")).value["digest"]) == 64


async def test_items_and_data_sets_are_deleted(api: Api) -> None:
    await filled(api)
    assert (await api.delete("/datasets/d/items?key=a")).status == 204
    assert (await api.delete("/datasets/d/items?key=a")).status == 404
    assert (await api.delete("/datasets/d/items")).status == 422
    assert (await api.delete("/datasets/d")).status == 204
    assert (await api.get("/datasets/d")).status == 404
    assert (await api.delete("/datasets/d")).status == 404


BAD_ITEMS: list[dict[str, Any]] = [
    {},
    {"columns": {}},
    {"columns": [1]},
    {"columns": {"x": [[0, 1]]}},
    {"columns": {"x": [[0, 1]], "y": [0], "z": [1]}},
    {"columns": {"x": [[0, 1]], "y": [0, 1]}},
    {"columns": {"x": [[0, 1, 2]], "y": [0]}},
    {"columns": {"x": [[0, 1]], "y": [0.5]}},
    {"columns": {"x": [[0, 1]], "y": ["a"]}},
    {"columns": {"x": "no", "y": [0]}},
    {"columns": {"x": 1, "y": 1}},
    {"keys": ["a", "b"], "columns": {"x": [[0, 1]], "y": [0]}},
    {"keys": [1], "columns": {"x": [[0, 1]], "y": [0]}},
    {"keys": [None], "columns": {"x": [[0, 1]], "y": [0]}},
    {"keys": [["a"]], "columns": {"x": [[0, 1]], "y": [0]}},
    {"keys": "a", "columns": {"x": [[0, 1]], "y": [0]}},
    {"keys": 5, "columns": {"x": [[0, 1]], "y": [0]}},
    {"keys": {"a": 1}, "columns": {"x": [[0, 1]], "y": [0]}},
    {"keys": [""], "columns": {"x": [[0, 1]], "y": [0]}},
    {"keys": ["k" * 300], "columns": {"x": [[0, 1]], "y": [0]}},
    {"values": 1, "columns": {"x": [[0, 1]], "y": [0]}},
]


@pytest.mark.parametrize("body", BAD_ITEMS)
async def test_wrong_items_are_422_and_nothing_is_stored(api: Api, body: dict[str, Any]) -> None:
    await succeed(api.put("/datasets/d", {"columns": COLUMNS}))
    reply = await api.post("/datasets/d/items", body)
    assert reply.status == 422, reply.value
    assert (await api.get("/datasets/d")).value["count"] == 0


BAD_SPECS: list[dict[str, Any]] = [
    {},
    {"columns": {}},
    {"columns": {"x": {"dtype": "object", "shape": []}}},
    {"columns": {"x": {"dtype": "f4,f4", "shape": []}}},
    {"columns": {"x": {"dtype": "float32", "shape": [-1]}}},
    {"columns": {"x": {"dtype": "float32", "shape": [2**40, 2**40]}}},
    {"columns": {"x": {"dtype": "float32", "shape": [2.5]}}},
    {"columns": {"x": {"dtype": "float32", "shape": [True]}}},
    {"columns": {"x": {"dtype": "float32", "shape": [1] * 65}}},
    {"columns": {"x": {"dtype": "float32"}}, "replication": 10**9},
    {"columns": {"x\n": {"dtype": "float32"}}},
    {"columns": {"x": {"dtype": "float32"}}, "speed": 1},
]


@pytest.mark.parametrize("body", BAD_SPECS)
async def test_a_wrong_declaration_is_refused(api: Api, body: dict[str, Any]) -> None:
    reply = await api.put("/datasets/d", body)
    assert reply.status in (413, 422), reply.value
    assert (await api.get("/datasets")).value["datasets"] == []


@pytest.mark.parametrize("name", ["..", "A", "a%2f..%2fb", "a%00", "%2e%2e%2fx", "a b"])
async def test_a_data_sets_name_is_never_a_path(api: Api, name: str) -> None:
    reply = await api.put(f"/datasets/{name}", {"columns": COLUMNS})
    assert reply.status in (404, 405, 422)
    assert (await api.get("/datasets")).value["datasets"] == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=x",
        "limit=10001",
        "limit=" + "0" * 12 + "99999",
        "limit=" + "0" * 5000,
        "limit=",
        "limit=٣",
        "after=x",
        "after=-1",
        "after=9999999999999999999",
        "after=" + "9" * 30,
    ],
)
async def test_a_page_that_cannot_be_is_refused(api: Api, query: str) -> None:
    await filled(api)
    reply = await api.get(f"/datasets/d/items?{query}")
    # A cursor beyond the end is an empty page.
    assert reply.status == 422 or reply.value["keys"] == []
