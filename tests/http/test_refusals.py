"""Bad input: each case of the contract with its status and code, and the server goes on."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import msgpack
import numpy as np
import pytest

from aiaas_async.http.app import ROUTES
from aiaas_async.wire.codecs import MSGPACK
from tests.http.api import Api
from tests.http.conftest import IN_COMMON, Served
from tests.http.models import commit_doubler, succeed
from tests.http.raw import as_json, chunk, head, json_post, talk

CALL = {"x": [1, 2, 3, 4]}
FITS = as_json(CALL)


def filled(path: str) -> str:
    """A route's path with something in its places."""
    return path.replace("{path:.+}", "f").replace("{", "").replace("}", "")


@IN_COMMON
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{} {}",
        b"[1,]",
        b"nan",
        b'{"x": Infinity}',
        b"\xff\xfe",
        b'{"x": "\\ud800"}',
        b'"\xed\xa0\x80"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"x": ' + b"9" * 100_000 + b"}",
        b'{"x": 1e999}',
        b"[]",
        b"null",
        b'"text"',
        b"1",
    ],
    ids=range(17),
)
@pytest.mark.parametrize("path", ["/call", "/register", "/discover", "/train"])
async def test_malformed_json_is_400(common: Served, path: str, raw: bytes) -> None:
    reply = await common.api.post(path, raw=raw)
    assert (reply.status, reply.code) == (400, "malformed"), reply.value


MALFORMED = [
    b"",
    b"\xc1",
    b"\x81",
    b"\x81\xa1x",
    b"\x80\x80",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x81\xa1\xff\x01",
    b"\x82\xa1x\x01\xa1x\x02",
    b"\x81\x01\x02",
    b"\x81\xc4\x01x\x01",
    b"\x81\xc0\x01",
    b"\x81\x90\x01",
    b"\xd4\x01\x00",
    msgpack.packb({"x": msgpack.ExtType(5, b"1234")}),
    msgpack.packb(msgpack.Timestamp(1, 1)),
    b"\x90",
    b"\xc0",
]


@IN_COMMON
@pytest.mark.parametrize("raw", MALFORMED, ids=range(len(MALFORMED)))
@pytest.mark.parametrize("path", ["/call", "/register", "/discover", "/train"])
async def test_malformed_messagepack_is_400(common: Served, path: str, raw: bytes) -> None:
    reply = await common.speaking(MSGPACK).post(path, raw=raw)
    # A length that lies about more than a request may hold is too large before it is malformed.
    assert (reply.status, reply.code) in ((400, "malformed"), (413, "too_large")), reply.value


async def test_a_declared_length_over_the_cap_is_413_before_a_byte_of_it(served: Served) -> None:
    for path in ("/call", "/register", "/train", "/discover"):
        reply = await talk(served.port, json_post(path, f"Content-Length: {10 << 30}"))
        assert (reply.status, reply.code) == (413, "too_large")
        assert reply.headers["Connection"] == "close"


async def test_a_chunked_body_over_the_cap_is_413_while_it_comes(served: Served) -> None:
    piece = chunk(b" " * 65536)
    request = json_post("/call", "Transfer-Encoding: chunked")
    reply = await talk(served.port, request, *[piece] * 40)
    assert (reply.status, reply.code) == (413, "too_large")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "GZIP", "x-gzip"])
async def test_a_compressed_body_is_inflated(served: Served, coding: str) -> None:
    await commit_doubler(served.api)
    squeezed = zlib.compress(FITS) if coding == "deflate" else gzip.compress(FITS)
    headers = {"Content-Encoding": coding}
    reply = await succeed(served.api.post("/call", raw=squeezed, headers=headers))
    assert reply.value["outputs"]["doubled"] == [2, 4, 6, 8]


async def test_a_body_that_inflates_beyond_the_cap_is_413(served: Served) -> None:
    bombs = {"gzip": gzip.compress(bytes(64 << 20)), "deflate": zlib.compress(bytes(64 << 20))}
    for coding, bomb in bombs.items():
        headers = {"Content-Encoding": coding}
        reply = await served.api.post("/call", raw=bomb, headers=headers)
        assert (reply.status, reply.code) == (413, "too_large")


@IN_COMMON
@pytest.mark.parametrize(
    "bad", [b"", b"junk", gzip.compress(FITS)[:-4], gzip.compress(FITS) + b"more"], ids=range(4)
)
async def test_a_broken_compressed_body_is_400(common: Served, bad: bytes) -> None:
    reply = await common.api.post("/call", raw=bad, headers={"Content-Encoding": "gzip"})
    assert (reply.status, reply.code) == (400, "malformed")


@IN_COMMON
@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "x"])
async def test_another_coding_is_415(common: Served, coding: str) -> None:
    reply = await common.api.post("/call", raw=b"x", headers={"Content-Encoding": coding})
    assert (reply.status, reply.code) == (415, "unsupported_media")


@IN_COMMON
@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"],
)
async def test_another_content_type_is_415(common: Served, kind: str) -> None:
    reply = await common.api.post("/call", raw=FITS, headers={"Content-Type": kind})
    assert (reply.status, reply.code) == (415, "unsupported_media")


async def test_a_content_type_with_parameters_is_understood(served: Served) -> None:
    await commit_doubler(served.api)
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await served.api.post("/call", raw=FITS, headers=headers)).status == 200


async def test_nothing_at_a_path_is_404(api: Api) -> None:
    for path in ("/", "/nothing", "/models/a/b/c", "/call/", "/%2e%2e/etc/passwd", "/models/"):
        reply = await api.get(path)
        assert (reply.status, reply.code) == (404, "not_found"), path


@IN_COMMON
@pytest.mark.parametrize("path", sorted({filled(route[1]) for route in ROUTES}))
async def test_a_method_that_is_not_allowed_is_405_with_those_that_are(
    common: Served, path: str
) -> None:
    taken = {method for method, known, _ in ROUTES if filled(known) == path}
    for method in {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - taken:
        reply = await common.api.send(method, path)
        assert (reply.status, set(reply.headers["Allow"].split(", "))) == (405, taken)


@IN_COMMON
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]", "127.0.0.1@evil"],
)
async def test_another_host_is_421_on_every_route(common: Served, host: str) -> None:
    for method, path, _ in ROUTES:
        request = head(method, filled(path), "Content-Length: 0", host=host)
        reply = await talk(common.port, request)
        assert reply.status in ((400, 421) if not host else (421,)), path


@IN_COMMON
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:99999", "localhost:x"]
)
async def test_our_own_names_are_served(common: Served, host: str) -> None:
    reply = await talk(common.port, head("GET", "/health/live", host=host))
    assert reply.status == 200


@IN_COMMON
@pytest.mark.parametrize(
    "field",
    [
        "Origin: http://evil.example",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ],
)
async def test_a_foreign_page_is_403_on_every_route(common: Served, field: str) -> None:
    for method, path, _ in ROUTES:
        reply = await talk(common.port, head(method, filled(path), field, "Content-Length: 0"))
        assert (reply.status, reply.code) == (403, "forbidden_origin"), path
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]


async def test_a_preflight_gets_no_leave(served: Served) -> None:
    fields = ("Origin: http://evil.example", "Access-Control-Request-Method: POST")
    reply = await talk(served.port, head("OPTIONS", "/call", *fields))
    assert reply.status == 403


DEEP: list[tuple[str, Any]] = [
    ("list", lambda n: "[" * n + "]" * n),
    ("object", lambda n: '{"a":' * n + "1" + "}" * n),
    ("inputs", lambda n: '{"x":' + "[" * n + "]" * n + "}"),
    ("model", lambda n: '{"model":' + "[" * n + "]" * n + ',"inputs":{"x":1}}'),
    (
        "lineage",
        lambda n: (
            '{"name":"m","version":"1","inputs":["x"],"outputs":["y"],"lineage":{"a":'
            + "[" * n
            + "]" * n
            + "}}"
        ),
    ),
    (
        "graph",
        lambda n: (
            '{"name":"m","version":"1","inputs":["x"],"outputs":["y"],"graph":{"layers":'
            + "[" * n
            + "]" * n
            + "}}"
        ),
    ),
]


@pytest.mark.parametrize("shape", [d[1] for d in DEEP], ids=[d[0] for d in DEEP])
@pytest.mark.parametrize("path", ["/call", "/register", "/discover", "/train"])
async def test_deep_json_is_refused_at_every_depth(served: Served, path: str, shape: Any) -> None:
    await commit_doubler(served.api)
    for depth in (17, 33, 65, 200, 500, 800, 900, 950, 990, 1000, 1100):
        reply = await served.api.post(path, raw=shape(depth).encode())
        assert reply.status in (200, 400, 404, 413, 422), (depth, reply.value)


async def test_numbers_beyond_64_bits_are_no_defect(served: Served) -> None:
    await commit_doubler(served.api)
    for api in (served.api, served.speaking(MSGPACK)):
        for number in (2**63, 2**64, 2**70, -(2**64), 10**300):
            raw = as_json(
                {
                    "name": "big",
                    "version": "1",
                    "inputs": ["x"],
                    "outputs": ["y"],
                    "lineage": {"n": number},
                }
            )
            headers = {"Content-Type": "application/json"}
            reply = await api.post("/register", raw=raw, headers=headers)
            assert reply.status in (200, 409, 422)
            await api.get("/models/big/versions/1")
            reply = await api.post("/call", raw=as_json({"x": [number] * 4}), headers=headers)
            assert reply.status in (200, 422)


async def test_shapes_that_lie_are_422(served: Served) -> None:
    await commit_doubler(served.api)
    shapes: list[Any] = [
        [-1], [4, -1], [2**31], [2**63], [2**33, 2**33], [0, 4], [5], [3], [True] * 4, [4.0],
        ["4"], 4, None, [1] * 65, [[4]], {"4": 4}, [2**32, 2**32, 0], "4",
    ]  # fmt: skip
    for shape in shapes:
        tensor = {"dtype": "float32", "shape": shape, "data": bytes(16)}
        try:
            raw = msgpack.packb({"x": tensor})
        except OverflowError:
            continue
        reply = await served.speaking(MSGPACK).post("/call", raw=raw)
        assert reply.status == 422, (shape, reply.value)


DTYPES: list[Any] = [
    *("object", "O", "V0", "f4,f4", "f4," * 10_000, "S4", "M8[s]", ">f4", "", "float128"),
    *(5, None, ["f4"], {"a": 1}),
]


@IN_COMMON
@pytest.mark.parametrize("dtype", DTYPES, ids=range(len(DTYPES)))
async def test_dtypes_outside_the_list_are_422(common: Served, dtype: Any) -> None:
    await commit_doubler(common.api)
    body = {"x": {"dtype": dtype, "shape": [4], "data": bytes(16)}}
    reply = await common.speaking(MSGPACK).post("/call", body)
    assert (reply.status, reply.code) == (422, "invalid_input")


def as_msgpack_numpy_writes(kind: bytes, dtype: Any, data: bytes) -> dict[bytes, Any]:
    return {b"nd": True, b"type": dtype, b"kind": kind, b"shape": [4], b"data": data}


async def test_a_pickle_in_the_clothes_of_an_array_is_422(served: Served) -> None:
    await commit_doubler(served.api)
    for dtype in ("|O", b"O", [["a", "<f4"]], "<f4"):
        tensor = as_msgpack_numpy_writes(b"O", dtype, b"cos\nsystem\n(S'exit'\ntR.")
        reply = await served.speaking(MSGPACK).post("/call", {"x": tensor})
        assert (reply.status, reply.code) == (422, "invalid_input")


async def test_arrays_as_msgpack_numpy_writes_them_are_taken(served: Served) -> None:
    await commit_doubler(served.api)
    tensor = as_msgpack_numpy_writes(b"", "<f4", np.ones(4, "<f4").tobytes())
    reply = await succeed(served.speaking(MSGPACK).post("/call", {"x": tensor}))
    assert reply.value["outputs"]["doubled"]["data"] == np.full(4, 2, "<f4").tobytes()


async def test_a_bad_deadline_header_is_422_and_named(served: Served) -> None:
    await commit_doubler(served.api)
    for value in ("0", "-1", "x", "1e3", "٣", ""):
        reply = await served.api.post("/call", CALL, headers={"X-Deadline-Ms": value})
        assert reply.status == 422, value
        assert reply.detail.startswith("X-Deadline-Ms must be a positive whole number, got ")
    body = {"model": "doubler", "inputs": CALL, "timeout_ms": -1}
    wrong = await served.api.post("/call", body, headers={"X-Deadline-Ms": "20"})
    assert wrong.detail == "timeout_ms must be a positive number, got -1"
    long = {"X-Deadline-Ms": "9" * 5000}
    assert (await served.api.post("/call", CALL, headers=long)).status == 200
