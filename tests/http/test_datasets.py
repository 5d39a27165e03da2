"""/datasets: declare, fill, read, delete."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from aiaas_async.wire.codecs import JSON, MSGPACK
from aiaas_async.wire.items import pack_items
from tests.http.api import Api
from tests.http.conftest import IN_COMMON, Served
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


async def test_lists_take_the_columns_type_however_long_the_json_is(served: Served) -> None:
    api = served.speaking(JSON)
    await succeed(api.put("/datasets/d", {"columns": COLUMNS}))
    for count in (2, 20_000):
        x = [[number + 0.5, -1.25] for number in range(count)]
        body = {"keys": [f"k{n}" for n in range(count)], "columns": {"x": x, "y": [7] * count}}
        await succeed(api.post("/datasets/d/items", body))
        assert (await api.get("/datasets/d")).value["count"] == count


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


@IN_COMMON
@pytest.mark.parametrize("body", BAD_ITEMS)
async def test_wrong_items_are_422_and_nothing_is_stored(
    common_api: Api, body: dict[str, Any]
) -> None:
    await succeed(common_api.put("/datasets/d", {"columns": COLUMNS}))
    reply = await common_api.post("/datasets/d/items", body)
    assert reply.status == 422, reply.value
    assert (await common_api.get("/datasets/d")).value["count"] == 0


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


@IN_COMMON
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
async def test_a_page_that_cannot_be_is_refused(common_api: Api, query: str) -> None:
    await filled(common_api)
    reply = await common_api.get(f"/datasets/d/items?{query}")
    # A cursor beyond the end is an empty page.
    assert reply.status == 422 or reply.value["keys"] == []


async def test_a_data_set_shows_its_waste_and_gives_it_back(api: Api) -> None:
    await filled(api)
    await succeed(api.post("/datasets/d/items", ITEMS))
    shown = (await api.get("/datasets/d")).value
    assert shown["reclaimable_bytes"] == 3 * 16
    assert shown["disk_bytes"] > 6 * 16
    freed = (await api.post("/datasets/d/compact")).value["freed_bytes"]
    again = (await api.get("/datasets/d")).value
    assert again["reclaimable_bytes"] == 0
    assert again["disk_bytes"] == shown["disk_bytes"] - freed
    assert again["digest"] == shown["digest"]
    assert (await api.post("/datasets/none/compact")).status == 404


def value_of(keys: list[str], first: int) -> bytes:
    x = np.arange(2 * len(keys), dtype=np.float32).reshape(-1, 2) + first
    return b"".join(pack_items({"x": x, "y": np.arange(len(keys))}, keys))


STREAM = {"Content-Type": "application/msgpack"}


async def test_a_body_may_be_a_stream_of_values_stored_in_order(served: Served) -> None:
    api = served.speaking(MSGPACK)
    await succeed(api.put("/datasets/d", {"columns": COLUMNS}))
    body = value_of(["a", "b"], 0) + value_of(["c"], 100) + value_of(["a", "ü"], 200)

    async def dripping() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 7):
            yield body[at : at + 7]

    report = (await api.post("/datasets/d/items", raw=dripping(), headers=STREAM)).value
    assert (report["written"], report["replaced"], report["repeated"]) == (5, 1, 0)
    assert sum(report["per_node"].values()) == 5
    page = (await api.get("/datasets/d/items")).value
    assert page["keys"] == ["b", "c", "a", "ü"]


@pytest.mark.parametrize(
    ("rest", "status", "said"),
    [
        (value_of(["x", ""], 0), 422, "key 1 has 0 bytes"),
        (value_of(["x"], 0)[:-3], 400, "cut short"),
        (b"\xc1", 400, "extension"),
        (b"\x01", 400, "must be an object"),
        (b"\x81\xa4rows\x01", 422, "no field 'rows'"),
    ],
)
async def test_what_is_wrong_in_a_stream_says_how_much_was_stored_before_it(
    served: Served, rest: bytes, status: int, said: str
) -> None:
    api = served.speaking(MSGPACK)
    await succeed(api.put("/datasets/d", {"columns": COLUMNS}))
    raw = value_of(["a", "b"], 0) + value_of(["c"], 0) + rest
    reply = await api.post("/datasets/d/items", raw=raw, headers=STREAM)
    assert reply.status == status, reply.value
    assert said in reply.detail
    assert (await api.get("/datasets/d")).value["count"] == 3
    assert reply.value["details"]["stored"]["written"] == 3
    assert "3 items" in reply.detail


async def test_a_body_without_a_value_is_refused(served: Served) -> None:
    api = served.speaking(MSGPACK)
    await succeed(api.put("/datasets/d", {"columns": COLUMNS}))
    reply = await api.post("/datasets/d/items", raw=b"", headers=STREAM)
    assert (reply.status, reply.code) == (400, "malformed")


async def test_a_value_above_the_cap_is_413_however_long_the_stream_may_be(served: Served) -> None:
    api = served.speaking(MSGPACK)  # the cap is 2 MiB
    await succeed(api.put("/datasets/d", {"columns": COLUMNS}))
    keys = [f"key {number}" for number in range(40_000)]
    small = [value_of(keys[at : at + 10_000], at) for at in range(0, 40_000, 10_000)]
    reply = await api.post("/datasets/d/items", raw=io.BytesIO(b"".join(small * 2)), headers=STREAM)
    assert reply.value["written"] == 80_000
    large = value_of([f"key {number}" for number in range(90_000)], 0)
    reply = await api.post("/datasets/d/items", raw=io.BytesIO(large), headers=STREAM)
    assert (reply.status, reply.code) == (413, "too_large")


@pytest.mark.parametrize(
    "keys",
    [
        {"lengths": np.array([1, 1], np.uint8), "text": b"abc"},
        {"lengths": np.array([1.0]), "text": b"a"},
        {"lengths": np.array([[1]], np.uint8), "text": b"a"},
        {"lengths": np.array([2**40], np.uint64), "text": b"a"},
        {"lengths": np.array([1], np.uint8), "text": "a"},
        {"lengths": np.array([1], np.uint8), "text": b"\xff"},
        {"lengths": np.array([1], np.uint8), "text": b"a", "more": 1},
    ],
)
async def test_packed_keys_that_are_none_are_refused(served: Served, keys: dict[str, Any]) -> None:
    api = served.speaking(MSGPACK)
    await succeed(api.put("/datasets/d", {"columns": COLUMNS}))
    columns = {"x": np.zeros((1, 2), np.float32), "y": np.zeros(1, np.int64)}
    reply = await api.post("/datasets/d/items", {"keys": keys, "columns": columns})
    assert reply.status == 422, reply.value
    assert (await api.get("/datasets/d")).value["count"] == 0


async def test_a_range_of_items_is_read_by_their_numbers(api: Api) -> None:
    await filled(api)
    middle = (await api.get("/datasets/d/items?start=1&stop=2")).value
    assert middle["keys"] == ["b"]
    rest = (await api.get(f"/datasets/d/items?after={middle['next']}")).value
    assert rest["keys"] == ["c"]
    assert (await api.get("/datasets/d/items?start=2")).value["keys"] == ["c"]
    assert (await api.get("/datasets/d/items?start=9")).value["keys"] == []
    for query in ("start=2&stop=1", "start=-1", "stop=x", "start=0&stop=10001", f"stop={10**12}"):
        assert (await api.get(f"/datasets/d/items?{query}")).status == 422, query


@pytest.mark.parametrize("count", [10, 400])
async def test_large_whole_numbers_stay_apart_however_long_their_list_is(
    api: Api, count: int
) -> None:
    await succeed(api.put("/datasets/u", {"columns": {"n": {"dtype": "uint64", "shape": []}}}))
    numbers = [2**63 + n for n in range(count)]
    report = (await succeed(api.post("/datasets/u/items", {"columns": {"n": numbers}}))).value
    assert report["written"] == count
    vague = [2.0**53 + 2 * n for n in range(count)]
    refused = await api.post("/datasets/u/items", {"columns": {"n": vague}})
    assert (refused.status, refused.code) == (422, "invalid_input")


async def test_a_data_set_says_how_many_copies_there_are_and_they_follow_the_nodes(
    api: Api,
) -> None:
    declared = await succeed(api.put("/datasets/d", {"columns": COLUMNS, "replication": 5}))
    assert (declared.value["replication"], declared.value["copies"]) == (5, 2)
    await succeed(api.post("/datasets/d/items", ITEMS))
    await succeed(api.post("/nodes"))
    shown = (await api.get("/datasets/d")).value
    assert shown["copies"] == 3
    assert {node["rows"] for node in shown["nodes"].values()} == {3}
    assert (await api.get("/datasets")).value["datasets"][0]["copies"] == 3
