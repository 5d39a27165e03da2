"""Request bodies: values to encode, and bytes or files to stream.

A body can be opened again for another try.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, Protocol

from aiaas_async.errors import ConflictError, InvalidError
from aiaas_async.wire.codecs import MSGPACK, encode_msgpack

CHUNK: Final = 1 << 20
# aiohttp warns about bigger bytes, because it would write them in one go.
_IN_ONE_GO: Final = 1 << 20

Progress = Callable[[int, int], None]


class Body(Protocol):
    """`failure` is what a stream's own side did wrong, if anything."""

    failure: Exception | None

    @property
    def headers(self) -> Mapping[str, str]: ...

    def open(self, remaining_s: float, moved: Callable[[], None]) -> Any:
        """What aiohttp sends. `moved` is called whenever some of it has left."""


class Encoded:
    """A MessagePack value; with `timed`, told how long the server may take."""

    failure: Exception | None = None

    def __init__(self, value: Mapping[str, Any], *, timed: bool = False) -> None:
        self._value, self._timed = value, timed

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Content-Type": MSGPACK.content_type}

    def open(self, remaining_s: float, moved: Callable[[], None]) -> Any:
        del moved
        value = self._value
        if self._timed:
            value = {**value, "timeout_ms": server_timeout_ms(remaining_s)}
        try:
            body = encode_msgpack(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidError(f"the request cannot be sent: {error}") from error
        return body if len(body) <= _IN_ONE_GO else io.BytesIO(body)


def server_timeout_ms(remaining_s: float) -> int:
    """A little less than `remaining_s`, so that the server's own word arrives in time."""
    return max(1, int(remaining_s * 1000 - min(50.0, remaining_s * 50)))


class Streamed:
    """Bytes or a file, hashed before they are sent. Make it with `stream_of`."""

    def __init__(
        self, source: Path | bytes, digest: bytes, size: int, progress: Progress | None
    ) -> None:
        self._source, self._digest, self._progress = source, digest, progress
        self.size = size
        self.failure: Exception | None = None

    @property
    def sha256(self) -> str:
        return self._digest.hex()

    @property
    def headers(self) -> Mapping[str, str]:
        return {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(self.size),
            "Repr-Digest": f"sha-256=:{b64encode(self._digest).decode()}:",
        }

    def open(self, remaining_s: float, moved: Callable[[], None]) -> AsyncIterator[bytes]:
        del remaining_s
        self.failure = None
        return self._chunks(moved)

    async def _chunks(self, moved: Callable[[], None]) -> AsyncIterator[bytes]:
        sent = 0
        try:
            async with aclosing(_pieces(self._source)) as pieces:
                async for piece in pieces:
                    yield piece
                    sent += len(piece)
                    moved()
                    self._tell(sent)
            self._check_whole(sent)
        except Exception as error:
            # aiohttp reports it as a broken connection; the transport asks here for the truth.
            self.failure = error
            raise

    def _check_whole(self, sent: int) -> None:
        if sent != self.size:
            raise ConflictError(
                f"the file changed while it was sent: {sent} bytes instead of {self.size}"
            )

    def _tell(self, sent: int) -> None:
        if self._progress is not None:
            self._progress(sent, self.size)


async def stream_of(source: Path | bytes, progress: Progress | None = None) -> Streamed:
    """A body of `source`, which is read twice: once for its SHA-256. Raises `InvalidError`."""
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return Streamed(data, hashlib.sha256(data).digest(), len(data), progress)
    file = Path(source)
    try:
        digest, size = await asyncio.to_thread(_hash, file)
    except OSError as error:
        raise InvalidError(f"{file.name} cannot be read: {error.strerror}") from error
    return Streamed(file, digest, size, progress)


def _hash(file: Path) -> tuple[bytes, int]:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").digest()
        return digest, opened.tell()


async def _pieces(source: Path | bytes) -> AsyncGenerator[bytes, None]:
    if isinstance(source, bytes):
        for at in range(0, len(source), CHUNK):
            yield source[at : at + CHUNK]
        return
    file = await asyncio.to_thread(source.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, CHUNK):
            yield piece
    finally:
        file.close()
