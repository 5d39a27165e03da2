"""/v2/models/M/generate and generate_stream: text in, text out, whole or in parts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import requests

from aiaas_async.compute.streams import MAX_OPEN
from aiaas_async.node.node import Node
from aiaas_async.service.calls import CallRequest
from aiaas_async.testing import server
from tests.folders import in_memory
from tests.http.conftest import IN_COMMON, Served
from tests.http.models import doubler
from tests.http.v2asking import ask
from tests.http.v2server import serving
from tests.http.writers import FAIL, RUNTIMES, WRITER, Writer

WRITE = "/v2/models/writer/generate"
STREAM = "/v2/models/writer/generate_stream"


@pytest_asyncio.fixture
async def writing(scratch: Path) -> AsyncIterator[Served]:
    async with serving(scratch, RUNTIMES, WRITER, doubler()) as served:
        yield served


def text(said: str = "one two", repeat: int = 1, **more: Any) -> dict[str, Any]:
    return {"text_input": said, "repeat": repeat, **more}


async def events(served: Served, body: Any, path: str = STREAM) -> list[Any]:
    """The values of the events of a stream."""
    url = served.url + path
    async with served.api.session.post(url, data=json.dumps(body)) as response:
        assert response.status == 200, await response.read()
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        frames = (await response.read()).split(b"\n\n")
    assert frames.pop() == b""
    return [json.loads(frame.removeprefix(b"data: ")) for frame in frames]


async def until(so: Callable[[], bool]) -> None:
    """Let the loop turn until it is `so`."""
    async with asyncio.timeout(20):
        while True:
            if so():
                return
            await asyncio.sleep(0)


async def test_generate_answers_whole(writing: Served) -> None:
    answer = await ask(writing, "POST", WRITE, text(repeat=2, id="7"))
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.value == {
        "id": "7",
        "model_name": "writer",
        "model_version": "1",
        "text_output": "one two one two",
    }


async def test_parameters_fill_inputs_of_their_names(writing: Served) -> None:
    body = {"text_input": "hi", "parameters": {"repeat": 3, "temperature": 0.5, "stream": False}}
    for path in (WRITE, "/v2/models/writer/versions/1/generate"):
        assert (await ask(writing, "POST", path, body)).value["text_output"] == "hi hi hi"


async def test_a_list_of_texts_is_a_batch(writing: Served) -> None:
    answer = await ask(writing, "POST", WRITE, {"text_input": ["a", "b"], "repeat": [1, 2]})
    assert answer.value["text_output"] == ["a", "b b"]


async def test_a_stream_has_an_event_for_each_part(writing: Served) -> None:
    found = await events(writing, text("one two three", id="x"))
    assert [event["text_output"] for event in found] == ["one", "two", "three"]
    assert {(event["id"], event["model_name"], event["model_version"]) for event in found} == {
        ("x", "writer", "1")
    }
    (row,) = (await ask(writing, "GET", "/v2/models/writer/stats")).value["model_stats"]
    assert row["inference_stats"]["success"]["count"] == 1


async def test_a_model_without_parts_streams_one_event(writing: Served) -> None:
    path = "/v2/models/doubler/generate_stream"
    (event,) = await events(writing, {"x": [1.0, 2.0, 3.0, 4.0]}, path)
    assert event["doubled"] == [2.0, 4.0, 6.0, 8.0]


async def test_a_stream_without_parts_has_no_events(writing: Served) -> None:
    assert await events(writing, text("")) == []


async def test_what_fails_before_the_first_part_is_an_error_like_any_other(
    writing: Served,
) -> None:
    answer = await ask(writing, "POST", STREAM, text(FAIL))
    assert (answer.status, answer.error) == (400, "this word cannot be written")


async def test_what_fails_later_is_the_last_event(writing: Served) -> None:
    first, last = await events(writing, text(f"one {FAIL} two"))
    assert first["text_output"] == "one"
    assert last == {"error": "this word cannot be written"}


REFUSALS = [
    ({}, "expected 2 inputs but got 0 inputs for model 'writer'"),
    ({"text_input": "a"}, "expected 2 inputs but got 1 inputs"),
    ({"text_input": 7, "repeat": 1}, "Unable to parse 'data': input 'text_input': attempt to"),
    ({"text_input": {"a": "b"}, "repeat": 1}, "Unable to parse 'data': input 'text_input'"),
    ({"text_input": "a", "repeat": "1"}, "Unable to parse 'data': input 'repeat'"),
    ({"text_input": [], "repeat": 1}, "input 'repeat' batch size does not match"),
    ({"text_input": "a", "repeat": 1, "odd": {"a": 1}}, "parameter 'odd' has invalid type"),
    ({"text_input": "a", "repeat": 1, "parameters": 1}, "Expected JSON object for keyword"),
    ({"text_input": "a", "repeat": 1, "id": 1}, "Unable to parse 'id'"),
    ({"text_input": "a", "repeat": 1, "triton_x": 1}, "parameter keys starting with 'triton_'"),
    ({"text_input": "a", "repeat": 1, "timeout": -1}, "Unable to parse 'timeout'"),
    ([], "attempt to access JSON non-object as object"),
    (b'{"text_input": "a", "text_input": "b", "repeat": 1}', "input 'text_input' already exists"),
    (b'{"repeat": 1, "text_input": "a", "parameters": {"repeat": 1}}', "input 'repeat' already"),
    (b'{"text_input": "\\ud800", "repeat": 1}', "failed to parse the request JSON buffer"),
    (b'{"text_input": "a", "repeat": 1, "id": "\\ud800"}', "failed to parse the request JSON"),
    (b'{"text_input": "a", "repeat": 1, "\\udfff": 1}', "failed to parse the request JSON buffer"),
    (b'{"text_input": "a", "repeat": NaN}', "failed to parse the request JSON buffer"),
    (b"{", "failed to parse the request JSON buffer"),
    (b"[" * 101 + b"]" * 101, "JSON nesting depth exceeds maximum allowed limit (100)"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def refusing() -> AsyncIterator[Served]:
    """As `common` is: for many requests that leave nothing behind."""
    with in_memory() as folder:
        async with serving(folder, RUNTIMES, WRITER, stall_ms=60_000.0) as served:
            yield served


@IN_COMMON
@pytest.mark.parametrize(("body", "said"), REFUSALS)
@pytest.mark.parametrize("path", [WRITE, STREAM])
async def test_what_is_wrong_is_said_in_the_reference_servers_words(
    refusing: Served, path: str, body: Any, said: str
) -> None:
    answer = await ask(refusing, "POST", path, body)
    assert answer.status == 400
    assert answer.error.startswith(said)


async def test_sizes_that_values_cannot_fill_are_refused(writing: Served) -> None:
    answer = await ask(writing, "POST", "/v2/models/doubler/generate", {"x": [1.0, 2.0]})
    assert answer.status == 400
    assert answer.error == "The schema can not convert input 'x' to tensor with proper shape"


async def test_a_caller_that_goes_ends_the_writing(writing: Served) -> None:
    before, closed = Writer.written, Writer.closed
    url, body = writing.url + STREAM, json.dumps(text("word", 10_000))
    async with aiohttp.ClientSession() as session:
        response = await session.post(url, data=body)
        await response.content.readuntil(b"\n\n")
        response.close()
    await until(lambda: Writer.closed > closed)
    assert Writer.written - before < 10_000
    await until(lambda: not any(n.load for n in writing.platform.cluster.nodes.values()))


async def test_a_part_is_computed_when_its_predecessor_has_gone(writing: Served) -> None:
    before = Writer.written
    call = {"text_input": [["a b c d"]], "repeat": [[1]]}
    _, parts = await writing.platform.calls.stream(CallRequest(call, "writer", "1"))
    await anext(parts)
    for _ in range(100):
        await asyncio.sleep(0)
    assert Writer.written - before == 2  # the one that was read, and one ahead
    await parts.aclose()


async def test_too_many_streams_are_refused_and_gone_ones_make_room(writing: Served) -> None:
    request = CallRequest({"text_input": [["a b"]], "repeat": [[9]]}, "writer", "1")
    opened = []
    for _ in range(MAX_OPEN):
        _, parts = await writing.platform.calls.stream(request)
        await anext(parts)
        opened.append(parts)
    answer = await ask(writing, "POST", STREAM, text())
    assert answer.status == 503
    for parts in opened:
        await parts.aclose()
    assert len(await events(writing, text())) == 2


async def test_a_stream_that_takes_too_long_ends_with_an_error(writing: Served) -> None:
    original = Node.submit

    def submit(self: Node, message: Any, cost: int, deadline: float | None, *more: Any) -> Any:
        item = original(self, message, cost, deadline, *more)
        if Writer.written > before + 1:
            item.expire()
        return item

    before = Writer.written
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Node, "submit", submit)
        found = await events(writing, text("one two three four"))
    assert found[-1]["error"].startswith("not answered within the time")


@pytest.mark.real
def test_a_real_worker_writes_while_it_answers_others(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    rows = [f'[runtimes.{name}]\ntarget = "{target}"\n' for name, target in RUNTIMES.items()]
    config.write_text("nodes = 1\n" + "".join(rows))
    with server(tmp_path / "data", "--config", str(config)) as running:
        version = f"{running.url}/models/writer/versions/1"
        requests.post(f"{running.url}/register", json=WRITER, timeout=20).raise_for_status()
        requests.put(f"{version}/files/any", data=b"any", timeout=20).raise_for_status()
        requests.post(f"{version}/commit", timeout=20).raise_for_status()
        body = text("a long text", 100_000)
        with requests.post(running.url + STREAM, json=body, stream=True, timeout=20) as stream:
            lines = stream.iter_lines()
            assert json.loads(next(lines)[6:])["text_output"] == "a"
            answer = requests.post(running.url + WRITE, json=text("meanwhile"), timeout=20)
            assert answer.json()["text_output"] == "meanwhile"
            next(lines)
            assert json.loads(next(lines)[6:])["text_output"] == "long"
        answer = requests.post(running.url + STREAM, json=text("x y"), timeout=20)
        assert [json.loads(e[6:])["text_output"] for e in answer.text.split("\n\n")[:-1]] == [
            "x",
            "y",
        ]


async def test_a_deployed_version_streams_from_its_replicas(writing: Served) -> None:
    spec = {"model": "writer", "version": "1", "mode": "centralized", "replicas": 2}
    reply = await writing.api.post("/deployments", spec)
    assert reply.status == 201, reply.value
    found = await events(writing, text("one two"))
    assert [event["text_output"] for event in found] == ["one", "two"]
    assert len(writing.platform.cluster.nodes) == 2
    loaded = [node.status()["loaded"] for node in writing.platform.cluster.nodes.values()]
    assert all(any("#" in name for name in names) for names in loaded)
