"""Files on their way to the server: whole, hashed, told about, or refused."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from aiaas_async import AsyncClient
from aiaas_async.client import portal
from aiaas_async.client.body import CHUNK
from aiaas_async.errors import (
    ArtifactError,
    ConflictError,
    DeadlineError,
    DigestError,
    InvalidError,
    InvalidNameError,
    NotFoundError,
    OverloadedError,
)
from tests.client.stub import Stub, hang_up, refusal, running, value

DONE = value({"path": "w", "sha256": "0", "size": 1}, 201)


def some_bytes(count: int) -> bytes:
    return bytes(range(256)) * (count // 256) + bytes(count % 256)


@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK + 7])
@pytest.mark.parametrize("as_file", [False, True])
async def test_a_file_arrives_whole_with_its_digest(
    client: AsyncClient, stub: Stub, tmp_path: Path, size: int, as_file: bool
) -> None:
    content = some_bytes(size)
    (tmp_path / "w").write_bytes(content)
    told: list[tuple[int, int]] = []
    stub.will(DONE)
    source = tmp_path / "w" if as_file else content
    await client.upload("m", "1.0", "sub/w ä", source, lambda *at: told.append(at))
    asked = stub.asked[0]
    assert asked.path == "/models/m/versions/1.0/files/sub/w%20%C3%A4"
    assert asked.body == content
    assert asked.headers["Content-Length"] == str(size)
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert asked.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert told == [(min(at, size), size) for at in range(CHUNK, size + CHUNK, CHUNK)]


@pytest.mark.parametrize("first", [hang_up, value({}, 503, Retry_After="0")])
async def test_an_upload_is_sent_again_from_its_start(
    client: AsyncClient, stub: Stub, tmp_path: Path, first: object
) -> None:
    content = some_bytes(2 * CHUNK)
    (tmp_path / "w").write_bytes(content)
    stub.will(first, DONE)  # type: ignore[arg-type]
    await client.upload("m", "1.0", "w", tmp_path / "w")
    assert [asked.body for asked in stub.asked] == [content, content]


@pytest.mark.parametrize(
    "error",
    [ConflictError("committed"), DigestError("other"), OverloadedError("full", retry_after=99)],
)
async def test_a_refusal_in_the_middle_of_an_upload_arrives(
    client: AsyncClient, stub: Stub, error: ConflictError
) -> None:
    async def early(request: web.Request) -> web.StreamResponse:
        response = await refusal(error)(request)
        response.force_close()
        return response

    stub.read_bodies = False
    stub.will(early)
    with pytest.raises(type(error), match=error.message):
        await client.upload("m", "1.0", "w", bytes(64 * CHUNK))


async def test_the_deadline_is_for_each_piece_and_not_for_the_whole(stub: Stub) -> None:
    """The server takes a piece only when the one before has been told of."""
    moved = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        async for _ in request.content.iter_chunked(CHUNK):
            pause = asyncio.Event()
            loop.call_later(0.01, pause.set)
            await pause.wait()
        moved.set()
        return await DONE(request)

    stub.read_bodies = False
    stub.will(slow)
    async with AsyncClient(stub.url, 0.2) as client:
        await client.upload("m", "1.0", "w", bytes(64 * CHUNK))
    assert moved.is_set()


async def test_an_upload_that_no_longer_moves_is_a_deadline_error(stub: Stub) -> None:
    async def deaf(request: web.Request) -> web.StreamResponse:
        return await asyncio.Future()

    stub.read_bodies = False
    stub.will(deaf)
    async with AsyncClient(stub.url, 0.1) as client:
        with pytest.raises(DeadlineError):
            await client.upload("m", "1.0", "w", bytes(64 * CHUNK))


async def test_what_progress_raises_ends_the_upload_and_is_raised(
    client: AsyncClient, stub: Stub
) -> None:
    class EnoughError(Exception):
        pass

    def stop(sent: int, total: int) -> None:
        raise EnoughError

    stub.will(DONE)
    with pytest.raises(EnoughError):
        await client.upload("m", "1.0", "w", bytes(8 * CHUNK), stop)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, portal._new_loop])
def test_a_cancelled_upload_leaves_no_connection_behind(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Its buffer is full, and nobody reads."""

    async def deaf(request: web.Request) -> web.StreamResponse:
        return await asyncio.Future()

    def stop(sent: int, total: int) -> None:
        raise ZeroDivisionError

    async def run() -> None:
        async with running() as stub:
            stub.read_bodies = False
            stub.will(deaf)
            client = AsyncClient(stub.url)
            with pytest.raises(ZeroDivisionError):
                await client.upload("m", "1.0", "w", bytes(16 * CHUNK), stop)
            assert client._transport._connected()
            await client.close()
            assert not client._transport._connected()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


async def test_a_file_that_changes_while_it_is_sent_is_not_taken(
    client: AsyncClient, stub: Stub, tmp_path: Path
) -> None:
    file = tmp_path / "w"
    file.write_bytes(bytes(8 * CHUNK))

    def shorten(sent: int, total: int) -> None:
        file.write_bytes(b"short")

    stub.will(DONE)
    with pytest.raises(ConflictError, match="changed while"):
        await client.upload("m", "1.0", "w", file, shorten)


async def test_a_file_that_is_not_there_is_said_before_anything_is_sent(
    client: AsyncClient, stub: Stub, tmp_path: Path
) -> None:
    with pytest.raises(InvalidError, match=r"weights\.bin cannot be read: No such file"):
        await client.upload("m", "1.0", "w", tmp_path / "weights.bin")
    with pytest.raises(InvalidNameError):
        await client.upload("m", "1.0", "../w", b"")
    assert stub.asked == []


def version(*files: tuple[str, bytes]) -> dict[str, object]:
    entries = [{"path": p, "sha256": hashlib.sha256(b).hexdigest()} for p, b in files]
    return {"name": "m", "version": "1.0", "files": entries}


async def test_a_push_registers_uploads_and_commits(
    client: AsyncClient, stub: Stub, tmp_path: Path
) -> None:
    (tmp_path / "graph.json").write_text('{"inputs": ["x"], "outputs": ["y"], "layers": []}')
    (tmp_path / "w").write_bytes(b"12345")
    stub.will(
        refusal(NotFoundError("no such version")),
        value({}),
        value(version()),
        DONE,
        DONE,
        value({"state": "ready"}),
    )
    told: list[tuple[int, int]] = []
    done = await client.push("m", "1.0", tmp_path, progress=lambda *at: told.append(at))
    assert done == {"state": "ready"}
    assert stub.paths == [
        "GET /models/m/versions/1.0",
        "POST /register",
        "GET /models/m/versions/1.0",
        "PUT /models/m/versions/1.0/files/graph.json",
        "PUT /models/m/versions/1.0/files/w",
        "POST /models/m/versions/1.0/commit",
    ]
    assert stub.asked[1].value == {
        "name": "m",
        "version": "1.0",
        "inputs": ["x"],
        "outputs": ["y"],
    }
    assert told == sorted(told)
    assert told[-1] == (told[-1][1],) * 2


async def test_what_the_server_has_already_is_not_sent_again(
    client: AsyncClient, stub: Stub, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").write_bytes(b"new")
    stub.will(value(version(("a", b"same"), ("b", b"old"))), DONE, value({}))
    await client.push("m", "1.0", tmp_path)
    assert [path.rpartition("/")[2] for path in stub.paths] == ["1.0", "b", "commit"]


async def test_metadata_of_the_caller_is_registered_even_if_some_is(
    client: AsyncClient, stub: Stub, tmp_path: Path
) -> None:
    (tmp_path / "w").write_bytes(b"1")
    stub.will(value(version()), refusal(ConflictError("other metadata")))
    with pytest.raises(ConflictError, match="other metadata"):
        await client.push("m", "1.0", tmp_path / "w", {"inputs": ["x"], "outputs": ["y"]})
    assert stub.paths == ["GET /models/m/versions/1.0", "POST /register"]


async def test_a_push_that_knows_no_signature_says_what_to_give(
    client: AsyncClient, stub: Stub, tmp_path: Path
) -> None:
    (tmp_path / "model.bin").write_bytes(b"1")
    stub.will(refusal(NotFoundError("no such version")))
    with pytest.raises(InvalidError, match=r"m:1\.0 is not registered.*give metadata"):
        await client.push("m", "1.0", tmp_path / "model.bin")


WITHDRAWN = "DELETE /models/m/versions/1.0?state=registered"
SIGNATURE = {"inputs": ["x"], "outputs": ["y"]}


@pytest.mark.parametrize("failing", ["upload", "commit"])
async def test_a_push_that_fails_takes_back_what_it_registered(
    client: AsyncClient, stub: Stub, tmp_path: Path, failing: str
) -> None:
    (tmp_path / "w").write_bytes(b"1")
    absent, there = refusal(NotFoundError("no such version")), value(version())
    refused, gone = refusal(ArtifactError("damaged")), value(None, 204)
    between = [] if failing == "upload" else [DONE]
    stub.will(absent, value({}), there, *between, refused, gone)
    with pytest.raises(ArtifactError, match="damaged"):
        await client.push("m", "1.0", tmp_path / "w", SIGNATURE)
    assert stub.paths[-1] == WITHDRAWN


async def test_a_push_that_fails_leaves_what_was_registered_before(
    client: AsyncClient, stub: Stub, tmp_path: Path
) -> None:
    (tmp_path / "w").write_bytes(b"1")
    stub.will(value(version()), value({}), value(version()), refusal(ArtifactError("damaged")))
    with pytest.raises(ArtifactError):
        await client.push("m", "1.0", tmp_path / "w", SIGNATURE)
    assert WITHDRAWN not in stub.paths


async def test_a_push_that_is_cancelled_takes_back_what_it_registered(
    client: AsyncClient, stub: Stub, tmp_path: Path
) -> None:
    reached = asyncio.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        reached.set()
        return await asyncio.Future()

    (tmp_path / "w").write_bytes(b"1")
    absent = refusal(NotFoundError("no such version"))
    stub.will(absent, value({}), value(version()), never, value(None, 204))
    push = asyncio.create_task(client.push("m", "1.0", tmp_path / "w", SIGNATURE))
    await reached.wait()
    push.cancel()
    with pytest.raises(asyncio.CancelledError):
        await push
    assert stub.paths[-1] == WITHDRAWN


async def test_what_cannot_be_taken_back_is_told_beside_the_failure(
    client: AsyncClient, stub: Stub, tmp_path: Path
) -> None:
    (tmp_path / "w").write_bytes(b"1")
    absent, there = refusal(NotFoundError("no such version")), value(version())
    refused, kept = refusal(ArtifactError("damaged")), refusal(ConflictError("it is committed"))
    stub.will(absent, value({}), there, refused, kept)
    with pytest.raises(ArtifactError) as raised:
        await client.push("m", "1.0", tmp_path / "w", SIGNATURE)
    assert raised.value.__notes__ == ["the registration of m:1.0 stays: it is committed"]
