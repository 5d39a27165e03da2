"""Long JSON is read by processes of its own: whatever it holds, no other request waits for it."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import pytest_asyncio

from aiaas_async.compute.pool import WorkerForks
from aiaas_async.compute.process import WorkerProcess
from aiaas_async.http.server import running_server
from aiaas_async.wire.codecs import JSON
from tests.http.api import Api
from tests.http.conftest import Served, settings
from tests.http.echo import RUNTIMES, echo
from tests.http.models import commit_doubler, succeed
from tests.http.raw import stall
from tests.http.v2asking import INFER, ask, body_of, tensor
from tests.http.v2server import commit

pytestmark = pytest.mark.real

STALL_MS = 50
JSON_HEADERS = {"Content-Type": "application/json"}


@pytest_asyncio.fixture
async def forked(scratch: Path) -> AsyncIterator[Served]:
    """A server with real workers, which have the runtimes of `echo.py`."""
    workers = WorkerForks(runtimes=RUNTIMES)
    async with (
        running_server(settings(scratch, max_body_mb=16), workers) as (platform, url),
        aiohttp.ClientSession() as session,
    ):
        yield Served(platform, url, Api(session, url, JSON, str(scratch)))


_TEXTS = {"name": "x0", "datatype": "BYTES", "shape": [1, 475_001]}


async def sent(forked: Served, path: str, body: bytes) -> bytes:
    """The answer as it came: decoding it would stall the loop, which is the server's as well."""
    url = forked.url + path
    async with forked.api.session.post(
        url, data=io.BytesIO(body), headers=JSON_HEADERS
    ) as response:
        assert response.status == 200
        return await response.read()


HOSTILE: dict[str, tuple[bytes, dict[str, str]]] = {
    "inputs": (b'{"inputs":[' + b'{"name":"x0"},' * 100_000 + b"{}]}", {}),
    "levels": (b"[" * 1_900_000, {}),
    "parameters": (
        b'{"inputs":[],"parameters":{'
        + b",".join(b'"%d":[]' % number for number in range(150_000))
        + b"}}",
        {},
    ),
    "texts": body_of(
        {"inputs": [{**_TEXTS, "parameters": {"binary_data_size": 1_900_000}}]},
        b"\0" * 1_900_000,
    ),
    "numbers": (
        b'{"inputs":[{"name":"x0","datatype":"FP32","shape":[7,7],"data":['
        + b"1," * 900_000
        + b"1]}]}",
        {},
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_infer_request_is_refused_without_a_stall(
    forked: Served, what: str
) -> None:
    await commit(forked, echo("string" if what == "texts" else "float32", -1))
    body, headers = HOSTILE[what]
    with stall() as measured:
        answer = await ask(forked, "POST", "/v2/models/echo/infer", body, headers)
    assert answer.status == 400
    assert measured.worst_ms < STALL_MS


ENDLESS: dict[str, tuple[bytes, int]] = {
    "objects": (b'{"a":[' + b"{}," * 3_000_000 + b"{}]}", 413),
    "lists": (b'{"a":' + b"[" * 5_000_000, 413),
    "deep": (b'{"a":' + b"[" * 100_000, 400),
    "keys": (b"{" + b",".join(b'"%d":0' % n for n in range(800_000)) + b"}", 413),
    "text": (b'{"a":"' + b"x" * 9_000_000 + b'"}', 413),
    "no JSON": (b'{"a":' + b"1," * 2_000_000, 400),
    "truths": (b'{"a":[' + b"true," * 180_000 + b"true]}", 404),
    "texts": (b'{"a":[' + b'"abcdef",' * 90_000 + b'""]}', 404),
    "lists that are empty": (b'{"a":[' + b"[]," * 300_000 + b"[]]}", 404),
    "many arrays": (
        b"{" + b",".join(b'"%d":[%s0]' % (n, b"0," * 99) for n in range(20_000)) + b"}",
        413,
    ),
    "a long name": (b'{"%s":[%s0]}' % (b"n" * 450_000, b"0," * 99), 404),
    "numbers that are slow to read": (b'{"a":[1e308' + b",1e308" * 2_000_000 + b"]}", 404),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_a_hostile_call_is_refused_without_a_stall(forked: Served, what: str) -> None:
    body, status = ENDLESS[what]
    with stall() as measured:
        reply = await forked.api.post("/call", raw=io.BytesIO(body), headers=JSON_HEADERS)
    assert reply.status == status, reply.value
    assert measured.worst_ms < STALL_MS


@pytest.mark.parametrize("path", ["/call", "/v2/repository/index", "/v2/logging"])
async def test_numbers_that_are_slow_to_read_stall_nobody(forked: Served, path: str) -> None:
    size = 10_900 if path == "/call" else 170_000
    body = b'{"a":[1e308' + b",1e308" * size + b"]}"
    with stall() as measured:
        answer = await ask(forked, "POST", path, body, JSON_HEADERS)
    assert answer.status < 500
    assert measured.worst_ms < 2 * STALL_MS


async def test_long_texts_in_json_are_answered_like_short_ones(forked: Served) -> None:
    await commit(forked, echo("string", -1))
    texts = ["some text"] * 50_000
    call = json.dumps({"model": "echo", "inputs": {"x0": [texts]}}).encode()
    reply = await succeed(forked.api.post("/call", raw=io.BytesIO(call), headers=JSON_HEADERS))
    assert reply.value["outputs"]["out_x0"] == [texts]


async def test_an_infer_request_may_have_a_long_id(forked: Served) -> None:
    await commit(forked, echo("float32", -1))
    one = {"name": "x0", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}
    body, headers = body_of({"id": "i" * 300_000, "inputs": [one]}, b"")
    answer = await ask(forked, "POST", "/v2/models/echo/infer", body, headers)
    assert answer.status == 200
    assert answer.value["id"] == "i" * 300_000


async def test_a_long_batch_in_json_is_answered_like_a_short_one_and_stalls_nobody(
    forked: Served,
) -> None:
    await commit_doubler(forked.api)
    rows = [[n + 0.1, n + 0.2, 1e-9 * n, -n] for n in range(120_000)]
    body = json.dumps({"model": "doubler", "inputs": {"x": rows}, "outputs": ["doubled"]}).encode()
    short = json.dumps({"model": "doubler", "inputs": {"x": rows[:3]}}).encode()
    with stall() as measured:
        answer = await sent(forked, "/call", body)
    value = json.loads(answer)
    brief = await succeed(forked.api.post("/call", raw=short, headers=JSON_HEADERS))
    assert value["outputs"]["doubled"][:3] == brief.value["outputs"]["doubled"]
    assert len(value["outputs"]["doubled"]) == 120_000
    assert measured.worst_ms < STALL_MS / 2  # writing the answer takes 60


async def test_a_long_infer_request_and_its_answer_stall_nobody(forked: Served) -> None:
    await commit_doubler(forked.api)
    data = [[n + 0.1, n + 0.2, 1e-9 * n, -n] for n in range(120_000)]
    body = json.dumps({"inputs": [tensor(data, shape=[120_000, 4])]}).encode()
    with stall() as measured:
        answer = await sent(forked, INFER, body)
    (output,) = json.loads(answer)["outputs"]
    assert output["data"] == (2 * np.array(data, np.float32)).ravel().tolist()
    assert measured.worst_ms < STALL_MS / 2


async def test_a_reader_that_dies_is_replaced(forked: Served) -> None:
    await commit_doubler(forked.api)
    rows = [[1.5, 2.5, 3.5, 4.5]] * 20_000
    body = json.dumps({"model": "doubler", "inputs": {"x": rows}}).encode()
    assert (
        await forked.api.post("/call", raw=io.BytesIO(body), headers=JSON_HEADERS)
    ).status == 200
    for desk in forked.platform.readers._desks:
        worker = desk.seat._worker
        assert isinstance(worker, WorkerProcess)
        os.kill(worker.pid, signal.SIGKILL)
    assert (
        await forked.api.post("/call", raw=io.BytesIO(body), headers=JSON_HEADERS)
    ).status == 200
