"""Request ids: the clients send the one that is set, and errors tell the one that was answered."""

from __future__ import annotations

import asyncio

import pytest

from aiaas_async import AsyncClient, Client, request_id
from aiaas_async.client import UnreachableError
from aiaas_async.client.retry import RetryPolicy
from aiaas_async.errors import DeadlineError, InvalidError, NotFoundError
from aiaas_async.requestid import REQUEST_ID
from tests.client.stub import QUICK, Stub, value
from tests.client.test_transport import ANSWER, FULL


def sent(stub: Stub) -> list[str | None]:
    headers = [{name.lower(): text for name, text in asked.headers.items()} for asked in stub.asked]
    return [each.get("x-request-id") for each in headers]


async def test_the_id_that_is_set_is_sent_with_every_try_and_with_no_other_request(
    client: AsyncClient, stub: Stub
) -> None:
    stub.will(FULL, value(ANSWER))
    with request_id("order-17"):
        await client.call(x=1)
    await client.call(x=1)
    assert sent(stub) == ["order-17", "order-17", None]


async def test_tasks_side_by_side_send_their_own(client: AsyncClient, stub: Stub) -> None:
    stub.will(value(ANSWER))

    async def ask(name: str) -> None:
        with request_id(name):
            await client.call(x=1)

    await asyncio.gather(*(ask(f"order-{number}") for number in range(5)))
    assert sorted(map(str, sent(stub))) == [f"order-{number}" for number in range(5)]


async def test_the_client_that_does_not_await_sends_it_too(stub: Stub) -> None:
    stub.will(value(ANSWER))

    def use() -> None:
        with Client(stub.url, 10.0, QUICK) as client, request_id("order-18"):
            client.call(x=1)

    await asyncio.to_thread(use)
    assert sent(stub) == ["order-18"]


async def test_an_error_tells_the_id_that_the_servers_log_has(
    client: AsyncClient, stub: Stub
) -> None:
    stub.will(value({"code": "not_found", "detail": "no"}, 404, X_Request_Id="5f-1"))
    with pytest.raises(NotFoundError) as raised:
        await client.call(x=1)
    assert raised.value.request_id == "5f-1"


async def test_an_error_without_an_answer_tells_the_id_that_was_sent() -> None:
    with request_id("order-19"):
        async with AsyncClient("http://127.0.0.1:1", 5.0, RetryPolicy()) as client:
            with pytest.raises(UnreachableError) as raised:
                await client.nodes()
    assert raised.value.request_id == "order-19"


async def test_a_deadline_tells_the_id_that_was_sent(client: AsyncClient, stub: Stub) -> None:
    async def never(_: object) -> None:
        await asyncio.Event().wait()

    stub.will(never)  # type: ignore[arg-type]
    with request_id("order-20"), pytest.raises(DeadlineError) as raised:
        await client.call(x=1, timeout=0.02)
    assert raised.value.request_id == "order-20"


@pytest.mark.parametrize("unfit", ["", "a b", "a\nb", "é", "x" * 129])
def test_an_id_that_no_log_line_should_hold_is_refused(unfit: str) -> None:
    with pytest.raises(InvalidError, match="1 to 128 printable"), request_id(unfit):
        pass
    assert REQUEST_ID.get() == ""
