"""A thousand requests that are nearly right: none finds a defect, none stops the loop."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import msgpack
import pytest

from aiaas_async.http.app import ROUTES
from tests.http.api import LEAKS
from tests.http.conftest import Served
from tests.http.models import commit_doubler
from tests.http.raw import connected, head, stall

SEEDS: list[Any] = [
    None, True, False, 0, -1, 2**31, 2**63, 1e308, "", "x", "1.0", "m", "doubler", "latest", [], {},
    [1, 2, 3, 4], [[1, 2], [3]], ["a"], {"dtype": "float32", "shape": [4], "data": "AAAA"},
    {"x": [1, 2, 3, 4]}, {"x": {}}, {"name": "x", "dtype": "float32", "shape": [4]},
]  # fmt: skip
FIELDS = [
    "name",
    "version",
    "inputs",
    "outputs",
    "resources",
    "tags",
    "metrics",
    "runtime",
    "graph",
    "model",
    "key",
    "timeout_ms",
    "alias",
    "state",
    "limit",
    "dataset",
    "plan",
    "parent",
    "metadata",
    "columns",
    "keys",
    "replication",
    "pin",
    "targets",
    "wrt",
    "loss",
    "output",
    "x",
    "lineage",
    "id",
    "mode",
    "split",
    "nodes",
    "replicas",
]
HEADERS = [
    "Accept: application/msgpack",
    "Accept: */*;q=x",
    "Accept: " + "," * 500,
    "Range: bytes=9-1",
    "Range: bytes=-0",
    "If-Match: 1",
    "If-None-Match: *",
    "Repr-Digest: sha-256=:x:",
    "X-Deadline-Ms: 5",
    "Last-Event-ID: 3",
    "Content-Encoding: gzip",
    "Expect: nothing",
    "Upgrade: websocket",
    "Content-Type: application/msgpack",
    "Content-Type: text/html",
    "Accept-Encoding: gzip, br",
    "Cookie: a=b",
    "X: \xff",
    "If-Range: x",
    "If-Modified-Since: x",
]
WORDS = ["m", "doubler", "1.0", "latest", "d", "%00", "%0a", "%ff", "..", "a%20b", "node-0"]


def fuzzed(chance: random.Random) -> bytes:
    """A request that is nearly right."""
    method, path, _ = chance.choice(ROUTES)
    if chance.random() < 0.2:
        method = chance.choice(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "X"])
    path = re.sub(r"{[^}]*}", lambda _: chance.choice(WORDS), path)
    if chance.random() < 0.4:
        name = chance.choice(["limit", "after", "key", "state", "kind", "%00"])
        path += f"?{name}={chance.choice(['', '1', '-1', 'x', '9' * 20, '0' * 5000, '%ff'])}"
    body = {chance.choice(FIELDS): chance.choice(SEEDS) for _ in range(chance.randrange(6))}
    raw = json.dumps(body).encode() if chance.random() < 0.5 else msgpack.packb(body)
    if chance.random() < 0.3:
        at = chance.randrange(len(raw) + 1)
        raw = raw[:at] + chance.randbytes(chance.randrange(4)) + raw[at + chance.randrange(3) :]
    kind = "json" if raw[:1] == b"{" else "msgpack"
    fields = [
        f"Content-Type: application/{kind}",
        f"Content-Length: {len(raw)}",
        "Connection: close",
    ]
    named = {
        field.partition(":")[0]: field
        for field in [*fields, *chance.sample(HEADERS, chance.randrange(3))]
    }
    return head(method, path, *named.values()) + raw


@pytest.mark.parametrize("seed", range(10))
async def test_a_hundred_fuzzed_requests_are_answered_without_a_defect(
    served: Served, seed: int
) -> None:
    await commit_doubler(served.api)
    await served.api.put("/datasets/d", {"columns": {"x": {"dtype": "float32", "shape": []}}})
    for path in ("/metrics", "/openapi.json"):
        await served.api.get(path)  # their first answer imports what it needs
    chance = random.Random(seed)
    with stall() as measured:
        for _ in range(100):
            request = fuzzed(chance)
            async with connected(served.port) as (reader, writer):
                writer.write(request)
                raw = await reader.read()
            assert raw.startswith(b"HTTP/1."), request
            assert b" 500 " not in raw.partition(b"\r")[0], (request, raw)
            assert LEAKS.search(raw) is None, (request, raw)
    assert measured.worst_ms < 50
    assert (await served.api.get("/health/ready")).status == 200
