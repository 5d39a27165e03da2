"""Deadlines, refusals and broken connections, on a real socket."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import msgspec
import numpy as np
import pytest
from aiohttp import web

from aiaas_async import AsyncClient
from aiaas_async.client import DisconnectedError, UnexpectedAnswerError, UnreachableError
from aiaas_async.client.body import server_timeout_ms
from aiaas_async.client.retry import RetryPolicy
from aiaas_async.errors import (
    DeadlineError,
    InputError,
    InvalidError,
    NotFoundError,
    OverloadedError,
    QuotaError,
    WorkerDiedError,
)
from tests.client.stub import Stub, hang_up, refusal, text, value

ANSWER = {
    "model": "m",
    "version": "1.0",
    "outputs": {"label": 3},
    "timing": {"queue_us": 1, "compute_us": 2, "batch_size": 1, "node": "node-0"},
}
# The platform's own server never says 0; here it keeps the tests quick.
FULL = value({"code": "overloaded", "detail": "full"}, 503, Retry_After="0")


async def test_a_call_sends_tensors_and_how_long_it_will_wait(
    client: AsyncClient, stub: Stub
) -> None:
    stub.will(value(ANSWER))
    answer = await client.call({"x": np.zeros((2, 3), np.float32)}, model="m", y=[1, 2])
    assert answer["label"] == 3
    assert answer.timing.node == "node-0"
    sent = stub.asked[0].value
    assert sent["model"] == "m"
    assert sent["inputs"]["x"] == {"dtype": "float32", "shape": [2, 3], "data": bytes(24)}
    assert sent["inputs"]["y"]["dtype"] == "int64"
    assert sent.keys() == {"inputs", "model", "timeout_ms"}
    assert 9_000 < sent["timeout_ms"] <= 9_950


async def test_inputs_by_keyword_mean_what_they_mean_for_a_loss(
    client: AsyncClient, stub: Stub
) -> None:
    stub.will(value(ANSWER))
    await client.call(model="m", inputs={"x": [1, 2]})
    await client.call(inputs=[1, 2])  # an input of that name
    assert [asked.value["inputs"].keys() for asked in stub.asked] == [{"x"}, {"inputs"}]


async def test_a_refused_call_is_repeated_until_it_is_taken(
    client: AsyncClient, stub: Stub
) -> None:
    stub.will(FULL, FULL, FULL, value(ANSWER))
    assert (await client.call(x=1)).model == "m"
    budgets = [asked.value["timeout_ms"] for asked in stub.asked]
    assert len(budgets) == 4
    assert budgets == sorted(budgets, reverse=True)


async def test_a_refusal_that_outlasts_the_deadline_is_raised_at_once(
    client: AsyncClient, stub: Stub
) -> None:
    stub.will(refusal(OverloadedError("full", {"queue": 7}, retry_after=60.0)))
    with pytest.raises(OverloadedError, match="full") as caught:
        await client.call(x=1)
    assert caught.value.retry_after == 60.0
    assert caught.value.details == {"queue": 7}
    assert len(stub.asked) == 1


async def test_a_server_that_refuses_everything_is_not_stormed(stub: Stub) -> None:
    stub.will(FULL)
    policy = RetryPolicy(base_s=0.0, jitter=0.0, reserve=3.0)
    async with AsyncClient(stub.url, 10.0, policy) as client:
        for _ in range(5):
            with pytest.raises(OverloadedError):
                await client.call(x=1)
    assert len(stub.asked) == 5 + 3


@pytest.mark.parametrize(
    "error", [InputError("wrong"), WorkerDiedError("died twice"), QuotaError("over")]
)
async def test_other_errors_are_raised_at_once(
    client: AsyncClient, stub: Stub, error: Exception
) -> None:
    stub.will(refusal(error))  # type: ignore[arg-type]
    with pytest.raises(type(error)):
        await client.call(x=1)
    assert len(stub.asked) == 1


async def test_a_server_that_says_nothing_is_a_deadline_error_and_the_request_is_cancelled(
    client: AsyncClient, stub: Stub
) -> None:
    gone = asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        try:
            return await asyncio.Future()
        finally:
            gone.set()

    stub.will(wait)
    with pytest.raises(DeadlineError, match=r"within 0\.05 s"):
        await client.call(x=1, timeout=0.05)
    await asyncio.wait_for(gone.wait(), 5)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("call", [{"x": 1}]),
        ("register", [{"name": "m"}]),
        ("discover", [{"name": "m"}]),
        ("models", []),
        ("commit", ["m", "1"]),
        ("unload", ["m", "1"]),
        ("set_alias", ["m", "best", "1"]),
        ("put_items", ["d", {"x": [1]}]),
    ],
)
async def test_a_broken_connection_is_tried_once_more(
    client: AsyncClient, stub: Stub, method: str, arguments: list[Any]
) -> None:
    report = {"written": 1, "replaced": 0, "repeated": 0, "per_node": {"node-0": 1}}
    stub.will(hang_up, value({**ANSWER, **report, "models": [], "next": None}))
    await getattr(client, method)(*arguments)
    assert len(stub.asked) == 2


async def test_a_connection_that_breaks_twice_is_an_error(client: AsyncClient, stub: Stub) -> None:
    stub.will(hang_up)
    with pytest.raises(DisconnectedError, match="POST /call"):
        await client.call(x=1)
    assert len(stub.asked) == 2


async def test_training_is_never_started_twice(client: AsyncClient, stub: Stub) -> None:
    stub.will(hang_up)
    with pytest.raises(DisconnectedError, match="is not known"):
        await client.train(model="m", version="1.0", dataset="d", graph={})
    assert len(stub.asked) == 1


async def test_a_compare_and_set_whose_answer_got_lost_is_not_repeated(
    client: AsyncClient, stub: Stub
) -> None:
    stub.will(hang_up)
    with pytest.raises(DisconnectedError):
        await client.set_alias("m", "best", "1.0", expected=3)
    assert len(stub.asked) == 1
    assert stub.asked[0].headers["If-Match"] == '"3"'


async def test_what_a_broken_delete_had_deleted_is_deleted(client: AsyncClient, stub: Stub) -> None:
    stub.will(hang_up, refusal(NotFoundError("no such model")))
    await client.delete_model("m")
    with pytest.raises(NotFoundError):
        await client.delete_model("m")


async def test_nobody_at_the_address_is_said_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused, and nobody else gets it
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with AsyncClient(url, 30.0) as client:
            with pytest.raises(UnreachableError, match=f"no server answers at {url}; .*serve"):
                await client.models()


async def test_a_name_nobody_knows_is_said_without_waiting() -> None:
    async with AsyncClient("http://no-such-host.invalid", 30.0) as client:
        with pytest.raises(UnreachableError, match="cannot be reached"):
            await client.models()


async def test_another_kind_of_server_is_told_apart(client: AsyncClient, stub: Stub) -> None:
    stub.will(text("<html>Welcome to nginx!</html>"))
    with pytest.raises(UnexpectedAnswerError, match="is an aiaas server"):
        await client.models()
    stub.will(value(["not", "an", "object"]))
    with pytest.raises(UnexpectedAnswerError):
        await client.call(x=1)
    with pytest.raises(UnexpectedAnswerError):
        await client.models()


async def test_a_redirect_is_not_followed(client: AsyncClient, stub: Stub) -> None:
    stub.will(text("moved", 302, Location="https://elsewhere.example/"))
    with pytest.raises(UnexpectedAnswerError, match=r"302, to 'https://elsewhere\.example/'"):
        await client.call(x=1)
    assert len(stub.asked) == 1


async def test_a_body_of_many_megabytes_arrives_whole(client: AsyncClient, stub: Stub) -> None:
    stub.will(value(ANSWER))
    array = np.arange(3_000_000, dtype=np.float32)
    await client.call(x=array)
    assert stub.asked[0].value["inputs"]["x"]["data"] == array.tobytes()


async def test_all_models_are_listed_page_by_page(client: AsyncClient, stub: Stub) -> None:
    stub.will(
        value({"models": [{"name": "a"}], "next": "a"}),
        value({"models": [{"name": "b"}], "next": None}),
    )
    assert [model["name"] for model in await client.models()] == ["a", "b"]
    assert stub.paths == ["GET /models?limit=1000", "GET /models?after=a&limit=1000"]


async def test_not_ready_is_an_answer_and_is_not_waited_for(
    client: AsyncClient, stub: Stub
) -> None:
    stub.will(FULL)
    assert await client.ready() is False
    assert len(stub.asked) == 1
    stub.will(value({"ready": True}))
    assert await client.ready() is True


@pytest.mark.parametrize("strange", [object(), 2**70, "half \ud800", {1, 2}])
async def test_metadata_that_has_no_encoding_is_refused_before_it_is_sent(
    client: AsyncClient, stub: Stub, strange: object
) -> None:
    with pytest.raises(InvalidError, match="cannot be sent"):
        await client.register(name="m", tags=[strange])
    assert stub.asked == []


async def test_a_closed_client_says_so(client: AsyncClient) -> None:
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await client.models()


async def test_hundreds_of_calls_at_once_get_their_own_answers(
    client: AsyncClient, stub: Stub
) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        inputs = msgspec.msgpack.decode(await request.read())["inputs"]
        return await value({**ANSWER, "outputs": inputs})(request)

    stub.will(echo)
    answers = await asyncio.gather(*(client.call(x=n) for n in range(300)))
    assert [int(answer["x"]) for answer in answers] == list(range(300))


def test_the_server_is_given_a_little_less_than_the_client_waits() -> None:
    assert server_timeout_ms(30.0) == 29_950
    assert server_timeout_ms(0.1) == 95
    assert server_timeout_ms(0.0) == 1
