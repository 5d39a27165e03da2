"""A client for the tests: one encoding, every reply looked over for what no reply may tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from aiaas_async.http.status import MAX_DETAIL, STATUS
from aiaas_async.wire.codecs import JSON, MSGPACK, Codec

# Paths, processes, tracebacks, objects, and who we are made of.
LEAKS: Final = re.compile(
    rb"/tmp|/dev|/root|/home|/usr|/work|site-packages|Traceback|\.py\b|0x[0-9a-f]{6,}|\bpid\b"
    rb"|aiohttp|uvloop|Python/|CPython|" + re.escape(aiohttp.__version__.encode())
)
PROBLEM: Final = {"type", "title", "status", "detail", "code", "details"}


@dataclass(frozen=True, slots=True)
class Reply:
    """`value` is the decoded body, or its bytes when it is neither JSON nor MessagePack."""

    status: int
    headers: Mapping[str, str]
    value: Any

    @property
    def code(self) -> str:
        """The stable code of a problem."""
        found: str = self.value["code"]
        return found

    @property
    def detail(self) -> str:
        found: str = self.value["detail"]
        return found


class Api:
    """Requests to a server in one encoding. `secret` is text that no reply may hold."""

    def __init__(self, session: aiohttp.ClientSession, url: str, codec: Codec, secret: str) -> None:
        self.session, self.url, self.codec = session, url, codec
        self._secret = secret.encode()

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """`body` is encoded; `raw` goes as it is."""
        data = raw if body is None else self.codec.encode(body)
        sent = {"Content-Type": self.codec.content_type, "Accept": self.codec.content_type}
        sent |= headers or {}
        async with self.session.request(
            method, self.url + path, data=data, headers=sent, allow_redirects=False
        ) as response:
            got = await response.read()
            return check(Reply(response.status, response.headers, got), self._secret)

    async def get(self, path: str, **more: Any) -> Reply:
        return await self.send("GET", path, **more)

    async def post(self, path: str, body: Any = None, **more: Any) -> Reply:
        return await self.send("POST", path, body, **more)

    async def put(self, path: str, body: Any = None, **more: Any) -> Reply:
        return await self.send("PUT", path, body, **more)

    async def delete(self, path: str, **more: Any) -> Reply:
        return await self.send("DELETE", path, **more)


def check(reply: Reply, secret: bytes) -> Reply:
    """The reply with its body decoded; it must tell nothing of the machine, and be no defect."""
    raw: bytes = reply.value
    shown = b"\n".join(f"{name}: {text}".encode() for name, text in reply.headers.items())
    leak = LEAKS.search(raw + b"\n" + shown)
    assert leak is None, (leak, raw[:2000])
    assert secret not in raw
    assert reply.headers["Server"] == "aiaas"
    assert reply.status != 500, raw
    value = decoded(reply.headers.get("Content-Type", ""), raw)
    if reply.status >= 400 and raw:
        check_problem(reply, value)
    return Reply(reply.status, reply.headers, value)


def check_problem(reply: Reply, value: Any) -> None:
    """RFC 9457, a code of ours, and the status that code has."""
    assert isinstance(value, dict), value
    assert value.keys() <= PROBLEM
    assert value.keys() >= PROBLEM - {"details"}
    assert value["status"] == reply.status
    assert value["type"] == f"urn:aiaas:error:{value['code']}"
    assert value["code"] in {error.code for error in _tree()}
    assert 1 <= len(value["detail"]) <= MAX_DETAIL
    if reply.status == 503:
        assert int(reply.headers["Retry-After"]) >= 1


def _tree() -> set[type[Any]]:
    found = set(STATUS)
    for kind in STATUS:
        found |= set(kind.__subclasses__())
    return found


def decoded(content_type: str, raw: bytes) -> Any:
    kind = content_type.partition(";")[0]
    if raw and kind in ("application/json", "application/problem+json"):
        return JSON.decode(raw)
    return MSGPACK.decode(raw) if kind == "application/msgpack" and raw else raw
