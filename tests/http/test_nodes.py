"""/nodes and /ring: joining, draining, and the explanation of a key."""

from __future__ import annotations

from pathlib import Path

from aiohttp import ClientSession

from aiaas_async.compute.inloop import InLoopWorkers
from aiaas_async.config import Settings
from aiaas_async.http.server import running_server


async def test_a_node_joins_is_shown_and_leaves(tmp_path: Path) -> None:
    settings = Settings(port=0, data_dir=str(tmp_path), nodes=2)
    async with (
        running_server(settings, InLoopWorkers()) as (_, url),
        ClientSession(url) as session,
    ):
        async with session.post("/nodes") as response:
            assert response.status == 201
            assert response.headers["Location"] == "/nodes/node-2"
            assert (await response.json())["state"] == "serving"
        async with session.post("/nodes", json={"id": "big-one"}) as response:
            assert (await response.json())["id"] == "big-one"
        async with session.post("/nodes", json={"id": "big-one"}) as response:
            assert (response.status, (await response.json())["code"]) == (409, "conflict")
        async with session.post("/nodes", json={"name": "x"}) as response:
            assert response.status == 422
        async with session.get("/ring?key=a") as response:
            facts = await response.json()
            assert set(facts["would_move"]) == {"node-0", "node-1", "node-2", "big-one"}
        for key in ("", "k" * 257):
            async with session.get("/ring", params={"key": key}) as response:
                said = f"a key has 1 to 256 characters, got {len(key)}"
                assert (response.status, (await response.json())["detail"]) == (422, said)
        async with session.delete("/nodes/node-0") as response:
            assert (response.status, (await response.json())["state"]) == (200, "left")
        async with session.get("/nodes") as response:
            nodes = (await response.json())["nodes"]
            assert [node["id"] for node in nodes] == ["node-1", "node-2", "big-one"]
        async with session.delete("/nodes/node-0") as response:
            assert response.status == 404
