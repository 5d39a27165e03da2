"""Long reads: in pieces with turns of the loop between them, whole and in order all the same."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiohttp import StreamReader, web

from aiaas_async.errors import MalformedError
from aiaas_async.http import pieces
from aiaas_async.http.pieces import PiecewiseHandler
from tests.http.raw import chunk, head, json_post

READ = 1 << 18  # what uvloop hands over at most
CHUNKED = json_post("/", "Transfer-Encoding: chunked")
END = b"0\r\n\r\n"
FLOOD = CHUNKED + chunk(b" ") * 40_000


class Wire(asyncio.Transport):
    """A transport that is told what to hand over, and keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.reading, self.closed, self.written = True, False, b""

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Line:
    """A connection whose handler keeps what it reads, once it may."""

    def __init__(self) -> None:
        self.may_read = asyncio.Event()
        self.bodies: list[bytes] = []
        self.wire = Wire()
        loop = asyncio.get_running_loop()
        server = web.Server(self._handle)
        self.handler = PiecewiseHandler(server, loop=loop, access_log=None)
        self.handler.connection_made(self.wire)

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        await self.may_read.wait()
        self.bodies.append(b"".join([piece async for piece in request.content.iter_any()]))
        return web.Response(text=request.path)

    @property
    def content(self) -> StreamReader:
        assert self.handler._latest is not None
        return self.handler._latest[1]

    async def turns(self, count: int = 200) -> None:
        """More than a long read takes."""
        for _ in range(count):
            await asyncio.sleep(0)


@pytest.fixture
async def line() -> Line:
    made = Line()
    await made.turns(3)
    return made


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a turn is up after its first piece."""
    monkeypatch.setattr(pieces, "_TURN_S", 0.0)


async def test_a_flood_is_parsed_piece_by_piece_while_nothing_is_read(line: Line) -> None:
    line.handler.data_received(FLOOD)
    assert line.content.total_bytes < 6000
    assert not line.wire.reading
    line.may_read.set()
    await line.turns()
    assert line.content.total_bytes == 40_000
    assert line.wire.reading
    assert not line.handler._waiting


async def test_what_the_handler_does_not_read_stays_bounded_and_is_whole_in_the_end(
    line: Line, hurried: None
) -> None:
    line.handler.data_received(FLOOD)
    await line.turns()
    assert line.content.total_bytes < 25_000  # aiohttp pauses after 16,384 chunks
    assert not line.wire.reading
    line.may_read.set()
    await line.turns()
    assert line.wire.reading
    line.handler.data_received(END)
    await line.turns()
    assert line.bodies == [b" " * 40_000]


@pytest.mark.parametrize("size", [1, 100, 5000, 70_000])
async def test_requests_in_one_read_are_whole_and_answered_in_order(
    line: Line, hurried: None, size: int
) -> None:
    body = bytes(range(256)) * 800
    chunks = b"".join(chunk(body[at : at + size]) for at in range(0, len(body), size))
    declared = json_post("/declared", f"Content-Length: {len(body)}") + body
    line.may_read.set()
    line.handler.data_received(
        head("GET", "/first") + CHUNKED + chunks + END + declared + head("GET", "/last")
    )
    await line.turns(3000)
    assert line.bodies == [b"", body, body, b""]
    replies = line.wire.written.split(b"\r\n\r\n")[1:]
    assert [reply.partition(b"HTTP")[0] for reply in replies] == [
        b"/first",
        b"/",
        b"/declared",
        b"/last",
    ]


async def test_what_is_read_though_paused_comes_behind(line: Line, hurried: None) -> None:
    line.may_read.set()
    line.handler.data_received(CHUNKED + chunk(b"a" * 100_000))
    line.handler.data_received(chunk(b"b" * 100_000))
    line.handler.data_received(chunk(b"c") + END)
    await line.turns()
    assert line.bodies == [b"a" * 100_000 + b"b" * 100_000 + b"c"]


async def test_who_reads_a_body_that_turns_out_to_be_none_is_told_at_once(line: Line) -> None:
    line.may_read.set()
    line.handler.data_received(CHUNKED + chunk(b"begun"))
    await line.turns()
    content = line.content
    line.handler.data_received(b"QQ\r\n")
    assert isinstance(content.exception(), MalformedError)


async def test_a_connection_cut_midway_drops_what_waits(line: Line, hurried: None) -> None:
    line.may_read.set()
    line.handler.data_received(FLOOD)
    assert line.handler._waiting
    line.handler.connection_lost(None)
    await line.turns()
    assert not line.handler._waiting
    assert line.bodies == []


async def test_a_declared_body_passes_as_it_comes_with_its_head_and_without(
    line: Line, hurried: None
) -> None:
    line.may_read.set()
    line.handler.data_received(head("GET", "/"))
    await line.turns()
    body = bytes(600_000)
    request = json_post("/", f"Content-Length: {len(body)}") + body
    for at in range(0, len(request), READ):
        line.handler.data_received(request[at : at + READ])
        assert line.content.total_bytes >= min(at + READ, len(request)) - 200
    await line.turns()
    assert line.bodies == [b"", body]


async def test_the_first_of_a_connection_passes_after_one_piece(line: Line, hurried: None) -> None:
    line.handler.data_received(json_post("/", "Content-Length: 600000") + bytes(200_000))
    await line.turns(1)
    assert line.content.total_bytes == 200_000


FAKE = json_post("/", "Content-Length: 999999999")


async def test_a_head_in_a_body_is_not_believed(line: Line, hurried: None) -> None:
    line.may_read.set()
    line.handler.data_received(CHUNKED + b"%x\r\n" % len(FAKE))
    line.handler.data_received(FAKE + b"\r\n" + chunk(b" ") * 20_000)
    assert line.content.total_bytes < 6000


async def test_a_head_in_a_body_is_not_believed_after_an_upgrade_that_was_declined(
    line: Line, hurried: None
) -> None:
    line.may_read.set()
    upgrade = head("GET", "/", "Connection: Upgrade", "Upgrade: websocket")
    line.handler.data_received(upgrade + CHUNKED + b"%x\r\n" % len(FAKE))
    await line.turns()
    line.handler.data_received(FAKE + b"\r\n" + chunk(b" ") * 20_000)
    assert len(line.handler._waiting) > 50_000


@pytest.mark.parametrize(
    "begun", [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"GET /", b"X", b"GET / HTTP/1.1\r\n", b"\r\n"]
)
async def test_a_head_within_a_head_declares_or_is_refused(
    line: Line, hurried: None, begun: bytes
) -> None:
    line.may_read.set()
    line.handler.data_received(head("GET", "/"))
    await line.turns()
    line.handler.data_received(begun)
    line.handler.data_received(FAKE.replace(b"Host", b"Other") + CHUNKED + chunk(b" ") * 20_000)
    await line.turns()
    assert b"400 Bad Request" in line.wire.written or line.content.total_bytes > 120_000


async def test_a_connect_that_hides_a_flood_behind_a_head_is_cut(line: Line) -> None:
    line.may_read.set()
    line.handler.data_received(head("GET", "/"))
    await line.turns()
    line.handler.data_received(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nX: ")
    line.handler.data_received(FAKE.replace(b"Host", b"Other") + FLOOD)
    assert line.wire.closed


async def test_what_aiohttp_collects_behind_a_connect_is_two_pieces_at_most(
    line: Line, hurried: None
) -> None:
    line.handler.data_received(head("CONNECT", "a:1") + FLOOD)
    await line.turns()
    assert len(line.handler._message_tail) <= 2 * pieces._PIECE
    line.may_read.set()
    await line.turns()
    assert line.wire.written.startswith(b"HTTP/1.1 200")


async def test_after_a_body_that_ended_while_paused_the_parser_goes_on(
    line: Line, hurried: None
) -> None:
    """aiohttp takes its pause back there, its parser does not."""
    line.handler.data_received(CHUNKED + chunk(b" ") * 16_385 + END + CHUNKED)
    await line.turns()
    line.may_read.set()
    await line.turns()
    line.handler.data_received(chunk(b"a") + chunk(b"b" * 1000) + END)
    await line.turns()
    assert [len(body) for body in line.bodies] == [16_385, 1001]
    assert cast(Any, line.handler)._may_be_kept
