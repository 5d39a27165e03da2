"""Frames: a header struct and an array body, as one datagram or as a datagram and a slot.

Layout of a datagram: u32 header length, the header (MessagePack of `Request` or `Reply`), then
the body if it is small. Arrays lie in the body at 64-byte offsets, so a view is aligned for BLAS.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from aiaas_async.compute.jobs import ArrayMeta, Reply, Request

ALIGNMENT = 64
# Below this a body travels in the datagram; above it the copy through the socket buffer costs
# more than the shared slot (3 KB: 25 us against 20; 600 KB: 147 against 138, and one copy less).
INLINE_BYTES = 32 * 1024
MAX_DATAGRAM = 192 * 1024

Array = NDArray[Any]
_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(Request)
_replies = msgspec.msgpack.Decoder(Reply)


@dataclass(frozen=True, slots=True)
class Pieces:
    """An array of the body as the pieces that make it up along its first axis.

    A batch is several requests' rows: laying the pieces end to end is its only copy.
    """

    name: str
    parts: Sequence[Array]

    def meta(self, offset: int) -> ArrayMeta:
        first = self.parts[0]
        if len(self.parts) == 1:
            return ArrayMeta(self.name, first.dtype.str, first.shape, offset)
        rows = sum(part.shape[0] for part in self.parts)
        return ArrayMeta(self.name, first.dtype.str, (rows, *first.shape[1:]), offset)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)


def plan(arrays: Sequence[Pieces]) -> tuple[tuple[ArrayMeta, ...], int]:
    """Where each array goes in a body, and the body's size in bytes."""
    metas, end = [], 0
    for array in arrays:
        metas.append(array.meta(end))
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    return tuple(metas), end


def lay(arrays: Sequence[Pieces], metas: Sequence[ArrayMeta], body: memoryview) -> None:
    """Copy every piece to its place in `body`."""
    for array, meta in zip(arrays, metas, strict=True):
        at = meta.offset
        for part in array.parts:
            flat = np.frombuffer(body, np.uint8, part.nbytes, at)
            flat.view(part.dtype).reshape(part.shape)[...] = part
            at += part.nbytes


def views(metas: Sequence[ArrayMeta], body: memoryview | bytes) -> dict[str, Array]:
    """The arrays of a body, as views on it. The other end is trusted, so dtypes are too."""
    found = {}
    for meta in metas:
        dtype = np.dtype(meta.dtype)
        count = math.prod(meta.shape)
        if count and dtype.itemsize:
            flat = np.frombuffer(body, dtype, count, meta.offset)
            found[meta.name] = flat.reshape(meta.shape)
        else:  # no bytes to read: no rows, or strings that are all empty
            found[meta.name] = np.zeros(meta.shape, dtype)
    return found


H = TypeVar("H", Request, Reply)


def encode(header: Request | Reply, body: bytes | bytearray = b"") -> bytes:
    """One datagram."""
    head = _encoder.encode(header)
    return b"".join((len(head).to_bytes(4, "little"), head, body))


def decode_request(datagram: bytes) -> tuple[Request, memoryview]:
    """The header and the inline body (a view) of a datagram from the server."""
    head, body = _split(datagram)
    return _requests.decode(head), body


def decode_reply(datagram: bytes) -> tuple[Reply, memoryview]:
    """The header and the inline body (a view) of a datagram from a worker."""
    head, body = _split(datagram)
    return _replies.decode(head), body


def _split(datagram: bytes) -> tuple[memoryview, memoryview]:
    view = memoryview(datagram)
    end = 4 + int.from_bytes(view[:4], "little")
    return view[4:end], view[end:]


def whole(arrays: Mapping[str, Array]) -> list[Pieces]:
    """Each array as one piece, made C-contiguous and little-endian."""
    return [Pieces(name, (np.ascontiguousarray(array),)) for name, array in arrays.items()]
