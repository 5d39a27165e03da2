"""Long binaries, cut out of MessagePack before it is decoded.

A decoder copies every binary that it meets, 30 us for an image of 600 KB, and once more lays it
where its own header left it, which is rarely where numbers must lie to be computed with. So long
ones stay in the body as it came: an extension type stands in for each, which no request may hold
itself (`skim.py`), and becomes a view of its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

Body = bytes | bytearray | memoryview
LEAST: Final = 1 << 14  # bytes of a binary worth cutting out
_STAND_IN: Final = 0x01  # the code of the extension type
_FIXEXT_4: Final = b"\xd6"


class LongBinary(NamedTuple):
    """Where a binary stands in a body: `head` is where its header begins, `start` its bytes."""

    head: int
    start: int
    end: int


def cut_out(body: Body, binaries: Sequence[LongBinary]) -> bytes:
    """`body` with a stand-in for each of `binaries`, which follow each other."""
    parts: list[bytes | memoryview] = []
    view, at = memoryview(body), 0
    for number, each in enumerate(binaries):
        parts += (view[at : each.head], _FIXEXT_4, bytes([_STAND_IN]), number.to_bytes(4, "big"))
        at = each.end
    return b"".join((*parts, view[at:]))


def put_back(body: Body, binaries: Sequence[LongBinary]) -> Callable[[int, bytes], memoryview]:
    """What a decoder is to ask for the value of an extension type: code and data."""
    view = memoryview(body)

    def value(code: int, data: bytes) -> memoryview:
        number = int.from_bytes(data, "big")
        if code != _STAND_IN or number >= len(binaries):
            raise ValueError(f"extension type {code}")
        return view[binaries[number].start : binaries[number].end]

    return value
