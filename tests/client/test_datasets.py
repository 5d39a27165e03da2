"""Items as a stream of values of a bearable size."""

from __future__ import annotations

import io
from typing import Any

import msgpack
import numpy as np
import pytest

from aiaas_async import AsyncClient
from aiaas_async.client import datasets
from aiaas_async.client.values import unpack
from aiaas_async.errors import InputError, InvalidError
from tests.client.stub import Stub, value

REPORT = value({"written": 2, "replaced": 1, "repeated": 0, "per_node": {"node-0": 2}})


def values(stub: Stub) -> list[Any]:
    """The values of all bodies, their tensors as arrays and their keys as texts."""
    found = []
    for asked in stub.asked:
        for each in msgpack.Unpacker(io.BytesIO(asked.body), max_buffer_size=2**30):
            body = unpack(each)
            if "keys" in body:
                ends = np.cumsum(body["keys"]["lengths"])
                parts = np.split(np.frombuffer(body["keys"]["text"], np.uint8), ends[:-1])
                body["keys"] = [part.tobytes().decode() for part in parts]
            found.append(body)
    return found


async def test_items_go_in_order_in_values_of_four_megabytes(
    client: AsyncClient, stub: Stub
) -> None:
    stub.will(REPORT)
    images = np.random.default_rng(0).integers(0, 255, (1000, 100, 100), np.uint8)
    keys = [f"ключ {n}" for n in range(1000)]
    told: list[tuple[int, int]] = []
    await client.put_items(
        "d", {"image": images, "label": np.arange(1000)}, keys, lambda *at: told.append(at)
    )
    sent = values(stub)
    assert len(stub.asked) == 1
    assert [len(body["keys"]) for body in sent] == [418, 418, 164]
    assert np.array_equal(np.concatenate([body["columns"]["image"] for body in sent]), images)
    assert np.concatenate([body["columns"]["label"] for body in sent]).tolist() == [*range(1000)]
    assert [key for body in sent for key in body["keys"]] == keys
    assert told == [(418, 1000), (836, 1000), (1000, 1000)]


async def test_a_long_upload_is_acknowledged_on_its_way(
    client: AsyncClient, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "VALUE_BYTES", 100)
    stub.will(REPORT)
    x = np.arange(datasets.VALUES_PER_BODY * 250, dtype=np.uint8)
    total = await client.put_items("d", {"x": x})
    assert len(stub.asked) == 3
    assert np.array_equal(np.concatenate([body["columns"]["x"] for body in values(stub)]), x)
    assert total == {"written": 6, "replaced": 3, "repeated": 0, "per_node": {"node-0": 6}}


async def test_arrays_arrive_as_they_were_however_they_lay(client: AsyncClient, stub: Stub) -> None:
    stub.will(REPORT)
    x = np.arange(24, dtype=">i4").reshape(4, 3, 2)[::2].transpose(0, 2, 1)
    await client.put_items("d", {"x": x, "flag": np.array([True, False])})
    (body,) = values(stub)
    np.testing.assert_array_equal(body["columns"]["x"], x)
    assert body["columns"]["flag"].tolist() == [True, False]


async def test_items_without_keys_are_sent_without(client: AsyncClient, stub: Stub) -> None:
    stub.will(REPORT)
    await client.put_items("d", {"x": [[1.0, 2.0]]})
    assert stub.asked[0].value.keys() == {"columns"}


async def test_one_item_larger_than_a_value_goes_alone(client: AsyncClient, stub: Stub) -> None:
    stub.will(REPORT)
    await client.put_items("d", {"x": np.zeros((2, datasets.VALUE_BYTES + 1), np.uint8)})
    assert len(values(stub)) == 2


async def test_no_items_take_no_requests(client: AsyncClient, stub: Stub) -> None:
    total = await client.put_items("d", {"x": np.zeros((0, 3))})
    assert total["written"] == 0
    assert stub.asked == []


@pytest.mark.parametrize(
    ("columns", "keys"),
    [
        ({}, None),
        ({"x": [1, 2], "y": [1]}, None),
        ({"x": [1, 2]}, ["a"]),
        ({"x": 3}, None),
        ({"x": [[1], [1, 2]]}, None),
        ({"x": [1]}, [7]),
        ({"x": [1]}, ["half \ud800"]),
        ({"x": ["text"]}, None),
        ({"x": [1]}, [""]),
        ({"x": [1, 2]}, ["a", "ü" * 129]),
    ],
)
async def test_columns_that_do_not_match_are_refused_before_anything_is_sent(
    client: AsyncClient, stub: Stub, columns: dict[str, Any], keys: list[str] | None
) -> None:
    with pytest.raises((InputError, InvalidError)):
        await client.put_items("d", columns, keys)
    assert stub.asked == []


async def test_a_page_has_its_keys_as_a_list(client: AsyncClient, stub: Stub) -> None:
    tensor = {"dtype": "uint8", "shape": [1, 2], "data": b"\x01\x02"}
    stub.will(value({"keys": ["a"], "columns": {"x": tensor}, "next": "7"}))
    page = await client.items("d", after="6", limit=1)
    assert page["keys"] == ["a"]
    assert page["columns"]["x"].tolist() == [[1, 2]]
    assert stub.paths == ["GET /datasets/d/items?after=6&limit=1"]


async def test_a_key_may_hold_anything(client: AsyncClient, stub: Stub) -> None:
    stub.will(value({"key": "a", "columns": {}}))
    await client.get_item("d", "a&b=c d/ü+%")
    assert stub.paths == ["GET /datasets/d/items?key=a%26b%3Dc+d/%C3%BC%2B%25"]
