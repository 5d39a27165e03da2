"""The client that does not await: the same methods, in a thread of its own."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from aiaas_async import AsyncClient, Client
from aiaas_async.client.body import CHUNK
from aiaas_async.client.portal import Portal
from aiaas_async.errors import NotFoundError
from tests.client.stub import QUICK, Stub, events, refusal, value
from tests.client.test_jobs import DONE, job, line
from tests.client.test_transport import ANSWER

METHODS = [
    name
    for name, _ in inspect.getmembers(AsyncClient, inspect.isfunction)
    if not name.startswith("_") and name != "close"
]


@pytest_asyncio.fixture
async def sync_client(stub: Stub) -> AsyncIterator[Client]:
    client = Client(stub.url, 10.0, QUICK)
    yield client
    await asyncio.to_thread(client.close)


def client_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "aiaas client"]


@pytest.mark.parametrize("name", METHODS)
def test_both_clients_have_the_same_methods_with_the_same_parameters(name: str) -> None:
    theirs = inspect.signature(getattr(AsyncClient, name))
    ours = inspect.signature(getattr(Client, name))
    assert ours.parameters == theirs.parameters
    if name not in ("follow", "item_pages"):
        assert ours.return_annotation == theirs.return_annotation


def test_neither_client_has_a_method_the_other_lacks() -> None:
    ours = {name for name, _ in inspect.getmembers(Client, inspect.isfunction)}
    assert {name for name in ours if not name.startswith("_")} == {*METHODS, "close"}


async def test_a_call_gives_its_answer_where_a_loop_is_running(
    sync_client: Client, stub: Stub
) -> None:
    """As in Jupyter: this thread's loop belongs to somebody else."""
    stub.will(value(ANSWER))
    blocking = asyncio.to_thread(sync_client.call, {"x": 1}, model="m", timeout=5.0)
    assert (await blocking)["label"] == 3
    assert stub.asked[0].value["model"] == "m"


async def test_errors_are_the_typed_ones(sync_client: Client, stub: Stub) -> None:
    stub.will(refusal(NotFoundError("no model is called 'm'")))
    with pytest.raises(NotFoundError, match="'m'"):
        await asyncio.to_thread(sync_client.model, "m")


async def test_many_threads_share_one_client(sync_client: Client, stub: Stub) -> None:
    stub.will(value(ANSWER))
    calls = [asyncio.to_thread(sync_client.call, x=n) for n in range(32)]
    assert len(await asyncio.gather(*calls)) == len(stub.asked) == 32
    assert len(client_threads()) == 1


async def test_progress_is_told_in_the_callers_thread_and_may_use_the_client(
    sync_client: Client, stub: Stub
) -> None:
    stub.will(value({}))
    told: list[tuple[int, int, bool]] = []

    def upload() -> None:
        caller = threading.current_thread()

        def tell(sent: int, total: int) -> None:
            sync_client.model("m")
            told.append((sent, total, threading.current_thread() is caller))

        sync_client.upload("m", "1.0", "w", bytes(3 * CHUNK), tell)

    await asyncio.to_thread(upload)
    assert told == [(n * CHUNK, 3 * CHUNK, True) for n in (1, 2, 3)]


async def test_what_progress_raises_ends_the_upload(sync_client: Client, stub: Stub) -> None:
    def stop(sent: int, total: int) -> None:
        raise ZeroDivisionError

    stub.will(value({}))
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(sync_client.upload, "m", "1.0", "w", bytes(8 * CHUNK), stop)


async def test_all_items_come_page_by_page(sync_client: Client, stub: Stub) -> None:
    pages: list[dict[str, Any]] = [
        {"keys": ["a"], "columns": {}, "next": 1},
        {"keys": ["b"], "columns": {}, "next": None},
    ]
    stub.will(*map(value, pages))
    found = await asyncio.to_thread(lambda: list(sync_client.item_pages("d", 1)))
    assert [page["keys"] for page in found] == [["a"], ["b"]]
    assert stub.paths == ["GET /datasets/d/items?limit=1", "GET /datasets/d/items?after=1&limit=1"]


async def test_a_job_is_followed_by_a_loop(sync_client: Client, stub: Stub) -> None:
    stub.will(value(job()), events(line(1, "progress", loss=1), DONE))
    kinds = await asyncio.to_thread(lambda: [e.kind for e in sync_client.follow("j")])
    assert kinds == ["progress", "end"]


async def test_a_loop_that_is_left_early_leaves_the_client_usable(
    sync_client: Client, stub: Stub
) -> None:
    def first() -> int:
        for event in sync_client.follow("j"):
            return event.number
        raise AssertionError

    stub.will(value(job()), events(line(1, "progress"), DONE), value(job()))
    assert await asyncio.to_thread(first) == 1
    assert (await asyncio.to_thread(sync_client.job, "j"))["state"] == "running"


async def test_a_closed_client_says_so_and_its_thread_has_ended(stub: Stub) -> None:
    client = Client(stub.url)
    with client:
        assert len(client_threads()) == 1
    client.close()
    assert client_threads() == []
    with pytest.raises(RuntimeError, match="closed"):
        client.models()


async def test_a_forgotten_client_takes_its_thread_with_it(stub: Stub) -> None:
    def use_and_forget() -> list[threading.Thread]:
        client = Client(stub.url)
        client.call(x=1)
        del client
        gc.collect()
        return client_threads()

    stub.will(value(ANSWER))
    assert await asyncio.to_thread(use_and_forget) == []


async def test_a_request_under_way_is_cancelled_by_closing(sync_client: Client, stub: Stub) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()
    stub.will(waiting(arrived, gone))
    call = asyncio.create_task(asyncio.to_thread(sync_client.call, x=1))
    await arrived.wait()
    await asyncio.to_thread(sync_client.close)
    with pytest.raises(RuntimeError, match="closed while"):
        await call
    await gone.wait()


def waiting(arrived: asyncio.Event, gone: asyncio.Event) -> Any:
    async def wait(request: web.Request) -> web.StreamResponse:
        arrived.set()
        try:
            return await asyncio.Future()
        finally:
            gone.set()

    return wait


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own answer to it: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.real
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_cancels_the_request_and_the_client_goes_on() -> None:
    """The server runs in a thread here: signals go to the main one."""
    portal = Portal()
    arrived, gone = threading.Event(), threading.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        arrived.set()
        try:
            return await asyncio.Future()
        finally:
            gone.set()

    async def serve() -> tuple[Stub, web.AppRunner]:
        stub = Stub()
        stub.will(hang, value(ANSWER))
        return stub, await stub.start()

    stub, runner = portal.run(serve())

    def interrupt() -> None:
        arrived.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with Client(stub.url, 10.0, QUICK) as client:
        with pytest.raises(KeyboardInterrupt):
            client.call(x=1)
        assert gone.wait(10)
        assert client.call(x=1).model == "m"
    portal.close(runner.cleanup)


@pytest.mark.real
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_child_makes_its_own_connections() -> None:
    portal = Portal()

    async def serve() -> tuple[Stub, web.AppRunner]:
        stub = Stub()
        stub.will(value(ANSWER))
        return stub, await stub.start()

    stub, runner = portal.run(serve())
    with Client(stub.url, 10.0, QUICK) as client:
        assert client.call(x=1).model == "m"
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if client.call(x=2).model == "m" else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert client.call(x=3).model == "m"
    portal.close(runner.cleanup)
    assert len(stub.asked) == 3
