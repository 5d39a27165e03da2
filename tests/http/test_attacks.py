"""Bodies made to hurt: each is answered, none stops the loop for others."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import msgpack
import pytest

from tests.http.api import Reply, check
from tests.http.conftest import Served
from tests.http.models import V, commit_doubler, metadata
from tests.http.raw import (
    chunk,
    connected,
    head,
    json_post,
    least_stall,
    read_reply,
    stall,
    talk,
)

MIB = 1 << 20
BIG = 16 * MIB
LONG = 8 * MIB  # of JSON, which is read as any of 64 KiB and more is
WIDE = pytest.mark.parametrize("served", [{"max_body_mb": 20}], indirect=True)

# Made when a test wants it: together they take 400 MB.
MSGPACK_BOMBS: dict[str, Callable[[], bytes]] = {
    "empty maps": lambda: b"\xdd\x00\xff\xff\xff" + b"\x80" * BIG,
    "only empty maps": lambda: b"\x80" * BIG,
    "arrays of arrays": lambda: (b"\x91" * 15 + b"\xc0") * MIB,
    "nested": lambda: b"\x91" * BIG,
    "wide": lambda: b"\x81\xa1x\xdc\x10\x00" + (b"\xdc\x10\x00" + b"\x90" * 4096) * 4096,
    "numbers": lambda: b"\x81\xa1x\xdd\x00\x40\x00\x00" + b"\xca\x00\x00\x00\x00" * (3 * MIB),
    "texts": lambda: b"\x81\xa1x\xdc\x10\x00" + (b"\xda\x0f\xfd" + b"a" * 4093) * 4096,
    "one text": lambda: b"\x81\xa1x\xdb\x00\xf0\x00\x00" + b"a" * (15 * MIB),
    "one binary": lambda: b"\x81\xa1x\xc6\x00\xf0\x00\x00" + bytes(15 * MIB),
    "many binaries": lambda: b"\x81\xa1x\xdc\x0f\xff" + (b"\xc5\x0f\xf0" + bytes(4080)) * 4095,
    "small binaries": lambda: b"\x81\xa1x\xdc\x0f\xff" + b"\xc4\x00" * 4095,
    "binary keys": lambda: b"\x81\xc6\x00\xf0\x00\x00" + bytes(15 * MIB) + b"\x01",
    "a tensor that lies": lambda: msgpack.packb(
        {"x": {"dtype": "float32", "shape": [2**31 - 1] * 8, "data": bytes(15 * MIB)}}
    ),
    "a large tensor": lambda: msgpack.packb(
        {"x": {"dtype": "float32", "shape": [MIB * 15 // 4], "data": bytes(15 * MIB)}}
    ),
    "strings in a tensor": lambda: msgpack.packb(
        {"x": {"dtype": "string", "shape": [MIB * 15 // 4], "data": bytes(15 * MIB)}}
    ),
}


async def sent(served: Served, body: bytes, kind: str, path: str = "/call") -> tuple[Reply, float]:
    """The answer, and the worst stall in ms of CPU."""
    fields = (f"Content-Type: {kind}", f"Content-Length: {len(body)}")
    async with connected(served.port) as (reader, writer):
        with stall() as measured:
            writer.write(head("POST", path, *fields))
            for at in range(0, len(body), 65536):
                writer.write(body[at : at + 65536])
                await writer.drain()
            reply = await read_reply(reader)
    return check(reply, b"\0secret"), measured.worst_ms


@WIDE
@pytest.mark.parametrize("name", MSGPACK_BOMBS)
async def test_a_hostile_messagepack_body_is_refused_without_a_stall(
    served: Served, name: str
) -> None:
    await commit_doubler(served.api)
    reply, worst = await sent(served, MSGPACK_BOMBS[name](), "application/msgpack")
    assert 400 <= reply.status < 500
    assert worst < 50


JSON_BOMBS: dict[str, Callable[[], bytes]] = {
    "brackets": lambda: b"[" * LONG,
    "objects": lambda: b'{"a":' * (LONG // 5),
    "empty lists": lambda: b'{"x":[' + b"[]," * (LONG // 3) + b"[]]}",
    "one number": lambda: b'{"x":' + b"9" * LONG + b"}",
    "one text": lambda: b'{"x":"' + b"a" * LONG + b'"}',
    "escapes": lambda: b'{"x":"' + b"\\u0041" * (LONG // 6) + b'"}',
    "numbers": lambda: b'{"x":[' + b"0," * (LONG // 2) + b"0]}",
    "fields": lambda: b"{" + b",".join(b'"%d":0' % n for n in range(MIB)) + b"}",
    "spaces": lambda: b" " * LONG,
    "base64": lambda: (
        b'{"x":{"dtype":"float32","shape":[4],"data":"' + b"AAAA" * (LONG // 4) + b'"}}'
    ),
    "repeated keys": lambda: b"{" + b'"x":1,' * (LONG // 6) + b'"x":2}',
}


@WIDE
@pytest.mark.parametrize("name", JSON_BOMBS)
async def test_a_hostile_json_body_is_refused(served: Served, name: str) -> None:
    await commit_doubler(served.api)
    reply, _ = await sent(served, JSON_BOMBS[name](), "application/json")
    assert 400 <= reply.status < 500


def gibibyte_of_zeros() -> bytes:
    """As gzip. Blocks after a full flush stand for themselves, so one is made and repeated; only
    the checksum in the end is wrong."""
    packer = zlib.compressobj(1, wbits=-15)
    blocks = [packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)]
    return gzip.compress(b"")[:10] + blocks[0] + blocks[1] * 1023 + packer.flush() + bytes(8)


@WIDE
async def test_a_compressed_bomb_does_not_stall(served: Served) -> None:
    bomb = gibibyte_of_zeros()
    fields = ("Content-Encoding: gzip", f"Content-Length: {len(bomb)}")
    with stall() as measured:
        reply = await talk(served.port, json_post("/call", *fields), bomb)
    assert reply.status == 413
    assert measured.worst_ms < 50


END = b"0\r\n\r\n"
FLOOD = json_post("/call", "Transfer-Encoding: chunked") + chunk(b" ") * 200_000 + END
# As many chunks as aiohttp lets pass of one body before it pauses.
SHORT_FLOOD = head("GET", "/health/live", "Transfer-Encoding: chunked") + chunk(b" ") * 16_000 + END
FLOODS: dict[str, tuple[bytes, list[int]]] = {
    "alone": (FLOOD, [400]),
    "behind a request": (head("GET", "/health/live") + FLOOD, [200, 400]),
    "behind a body": (
        json_post("/call", "Content-Length: 40000") + b" " * 40_000 + FLOOD,
        [400] * 2,
    ),
    "behind a CONNECT": (head("CONNECT", "a:1") + FLOOD, [404, 400]),
    "of many requests": (SHORT_FLOOD * 40, [200] * 40),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_of_tiny_chunks_does_not_stall(served: Served, name: str) -> None:
    flood, statuses = FLOODS[name]

    async def attempt() -> None:
        async with connected(served.port) as (reader, writer):
            writer.write(flood)
            assert [(await read_reply(reader)).status for _ in statuses] == statuses

    assert await least_stall(50, attempt) < 50


async def test_an_absurd_length_is_refused_at_once_a_hundred_times(served: Served) -> None:
    with stall() as measured:
        for _ in range(100):
            reply = await talk(served.port, json_post("/call", f"Content-Length: {10 << 30}"))
            assert reply.status == 413
    assert measured.worst_ms < 50


@pytest.mark.parametrize("served", [{"max_file_mb": 1}], indirect=True)
async def test_a_file_over_the_cap_is_413_declared_or_not(served: Served) -> None:
    await served.api.post("/register", metadata())
    path = V.format("m") + "/files/f"
    declared = await talk(served.port, head("PUT", path, f"Content-Length: {2 * MIB}"))
    chunked = head("PUT", path, "Transfer-Encoding: chunked")
    sent_anyway = await talk(served.port, chunked, *[chunk(bytes(65536))] * 17)
    for reply in (declared, sent_anyway):
        assert (reply.status, reply.code) == (413, "too_large")
        assert "max_file_mb" in reply.detail
    assert (await served.api.get(V.format("m"))).value["files"] == []
    assert served.platform.models._artifacts.nbytes == 0


async def test_a_compressed_file_is_415(served: Served) -> None:
    await served.api.post("/register", metadata())
    headers = {"Content-Encoding": "gzip"}
    reply = await served.api.put(V.format("m") + "/files/f", raw=b"x", headers=headers)
    assert (reply.status, reply.code) == (415, "unsupported_media")


async def held_bytes(served: Served) -> float:
    """Of all bodies, as the metrics tell."""
    text = (await served.api.get("/metrics")).value.decode()
    return float(text.partition("\naiaas_http_body_bytes_in_flight ")[2].partition("\n")[0])


@pytest.mark.parametrize("served", [{"in_flight_body_mb": 1}], indirect=True)
async def test_bodies_in_memory_are_bounded_over_all_connections(served: Served) -> None:
    part = chunk(b" " * 900_000)
    for field in ("Transfer-Encoding: chunked", f"Content-Length: {MIB}"):
        async with connected(served.port) as (_, writer):
            writer.write(json_post("/call", field) + part)
            while await held_bytes(served) < 900_000:
                pass
            while (reply := await served.api.post("/call", raw=b" " * 500_000)).status != 503:
                assert reply.status == 400
            assert reply.code == "overloaded"
        while (await served.api.post("/call", raw=b" " * 500_000)).status != 400:
            pass
