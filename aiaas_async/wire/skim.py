"""A look over a MessagePack body before it is decoded: what would it build?

A decoder pays for structure, not for bytes: 16 MiB of empty maps became 1.2 GB of objects and a
stall of 6 s. So everything outside binary payloads is bounded before an object exists. Format:
https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

from typing import Final

from aiaas_async.errors import MalformedError, TooLargeError
from aiaas_async.wire.longbinary import LEAST, Body, LongBinary

MAX_STRUCTURE: Final = 64 * 1024  # bytes outside binary payloads
MAX_DEPTH: Final = 16
MAX_ARRAY: Final = 4096
MAX_MAP: Final = 256

# What a first byte announces: (kind, bytes of the length that follows, size known from it).
_SCALAR, _STRING, _BINARY, _ARRAY, _MAP, _REFUSED = range(6)
_Announced = tuple[int, int, int]


def _table() -> list[_Announced]:
    table: list[_Announced] = [(_SCALAR, 0, 0)] * 256
    for first in range(0x10):
        table[0x80 + first] = (_MAP, 0, first)
        table[0x90 + first] = (_ARRAY, 0, first)
    for first in range(0x20):
        table[0xA0 + first] = (_STRING, 0, first)
    for first in (0xC1, 0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8):
        table[first] = (_REFUSED, 0, 0)
    for width in (1, 2, 4):
        table[0xC4 + width // 2] = (_BINARY, width, 0)
        table[0xD9 + width // 2] = (_STRING, width, 0)
    for width in (2, 4):
        table[0xDB + width // 2] = (_ARRAY, width, 0)
        table[0xDD + width // 2] = (_MAP, width, 0)
    for first, size in ((0xCA, 4), (0xCB, 8)):
        table[first] = (_SCALAR, 0, size)
    for power in range(4):
        table[0xCC + power] = table[0xD0 + power] = (_SCALAR, 0, 1 << power)
    return table


_TABLE: Final = _table()
# Of scalars and short texts, which most values are: how many bytes they take in all.
_STEPS: Final = [
    1 + size if kind in (_SCALAR, _STRING) and not width else 0 for kind, width, size in _TABLE
]


def check_structure(body: Body) -> list[LongBinary]:
    """Raise unless `body` is one MessagePack value within the bounds above. Returns its long
    binaries.

    `MalformedError` when it is cut short, has trailing bytes, or holds an extension type;
    `TooLargeError` when it has more structure than a request may have.
    """
    binaries: list[LongBinary] = []
    end = measure(body, binaries)
    if end != len(body):
        what = "is cut short" if end > len(body) else "has trailing bytes"
        raise MalformedError(f"the MessagePack body {what}")
    return binaries


def first_binary(begin: bytes) -> int:
    """Where the first long binary begins in a body that begins so; 0 if it does not tell. Raises
    what `check_structure` does."""
    binaries: list[LongBinary] = []
    measure(begin, binaries)
    return binaries[0].start if binaries else 0


def measure(body: Body, binaries: list[LongBinary]) -> int:
    """What a `Measure` that has seen nothing finds."""
    return Measure().of(body, binaries)


class Measure:
    """A look over one value that goes on where it stood when more of the body has come: from the
    start each time, a body that comes byte by byte would be looked at once a byte."""

    __slots__ = ("_at", "_left", "_outer", "_payload")

    def __init__(self) -> None:
        self._at = self._payload = 0
        self._outer: list[int] = []  # values still to come: in each open array or map around
        self._left = 1  # in the innermost

    def of(self, body: Body, binaries: list[LongBinary]) -> int:  # noqa: C901, PLR0912 - calls would double its time
        """Where the value ends that `body` begins with; when that is beyond the body, at least so
        many bytes are needed to tell. Raises what `check_structure` does. `body` begins as it did
        the time before.

        The long binaries met on the way are added to `binaries`."""
        at, payload, outer, left = self._at, self._payload, self._outer, self._left
        try:
            while True:
                while left:
                    first = body[at]
                    left -= 1
                    if step := _STEPS[first]:
                        at += step
                        continue
                    kind, width, size = _TABLE[first]
                    head, at = at, at + 1 + width
                    if width:
                        if at > len(body):
                            needed, at, left = at, head, left + 1
                            return needed
                        size = int.from_bytes(body[at - width : at], "big")
                    if kind >= _ARRAY:
                        outer.append(left)
                        left = _values(kind, size, at, len(outer))
                    else:
                        if kind == _BINARY:
                            payload += size
                            if size >= LEAST:
                                binaries.append(LongBinary(head, at, at + size))
                        at += size
                if at - payload > MAX_STRUCTURE:
                    raise _too_long()
                if not outer:
                    return at
                left = outer.pop()
        except IndexError:
            return at + 1
        finally:
            self._at, self._payload, self._left = at, payload, left


def _too_long() -> TooLargeError:
    return TooLargeError(
        f"the MessagePack body has over {MAX_STRUCTURE} bytes outside binary payloads; send arrays "
        "as {dtype, shape, data}, with data as binary"
    )


def _values(kind: int, size: int, at: int, depth: int) -> int:
    """How many values an array or map of `size` holds."""
    if kind == _REFUSED:
        raise MalformedError(
            f"the MessagePack body holds an extension type before byte {at}; only plain types, "
            "text and binary are accepted"
        )
    what, limit = ("map", MAX_MAP) if kind == _MAP else ("array", MAX_ARRAY)
    if size > limit:
        raise TooLargeError(
            f"the MessagePack body holds one {what} of {size} elements, at most {limit} are "
            "allowed; send numbers as {dtype, shape, data}, with data as binary"
        )
    if depth > MAX_DEPTH:
        raise TooLargeError(f"the MessagePack body is nested deeper than {MAX_DEPTH}")
    return 2 * size if kind == _MAP else size
