"""Items in bodies of a bearable size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aiaas_async import AsyncClient
from aiaas_async.client.datasets import BODY_BYTES
from aiaas_async.client.values import unpack
from aiaas_async.errors import InputError
from tests.client.stub import Stub, value

REPORT = value({"written": 2, "replaced": 1, "repeated": 0, "per_node": {"node-0": 2}})


async def test_items_go_in_order_in_bodies_of_four_megabytes(
    client: AsyncClient, stub: Stub
) -> None:
    stub.will(REPORT)
    images = np.random.default_rng(0).integers(0, 255, (1000, 100, 100), np.uint8)
    keys = [f"ключ {n}" for n in range(1000)]
    told: list[tuple[int, int]] = []
    total = await client.put_items(
        "d", {"image": images, "label": np.arange(1000)}, keys, lambda *at: told.append(at)
    )
    bodies: list[Any] = [unpack(asked.value) for asked in stub.asked]
    assert all(len(asked.body) < 1.1 * BODY_BYTES for asked in stub.asked)
    assert len(bodies) == 3
    assert np.array_equal(np.concatenate([body["columns"]["image"] for body in bodies]), images)
    assert [key for body in bodies for key in body["keys"]] == keys
    assert told[-1] == (1000, 1000)
    assert total == {"written": 6, "replaced": 3, "repeated": 0, "per_node": {"node-0": 6}}


async def test_items_without_keys_are_sent_without(client: AsyncClient, stub: Stub) -> None:
    stub.will(REPORT)
    await client.put_items("d", {"x": [[1.0, 2.0]]})
    assert stub.asked[0].value.keys() == {"columns"}


async def test_one_item_larger_than_a_body_goes_alone(client: AsyncClient, stub: Stub) -> None:
    stub.will(REPORT)
    await client.put_items("d", {"x": np.zeros((2, BODY_BYTES + 1), np.uint8)})
    assert len(stub.asked) == 2


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
    ],
)
async def test_columns_that_do_not_match_are_refused_before_anything_is_sent(
    client: AsyncClient, stub: Stub, columns: dict[str, Any], keys: list[str] | None
) -> None:
    with pytest.raises(InputError):
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
