"""A long read is parsed in pieces; when the time of a turn is up, the loop gets its turn.

uvloop hands over up to 256 KiB at once, and 32 times in one turn. As chunks of one byte that is
43,000 chunks a read, which hold aiohttp's parser and who reads the body for 27 to 58 ms, by the
machine. What the parser makes of a read shows only when it is parsed, and an attacker may put
anything before the chunks; so the clock decides how much is parsed in a turn.

A body whose length was declared is one step to the parser, and passes as it comes: cut up, one of
600 KB costs its request 20 to 30 us of 600 more.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Final

from aiohttp import StreamReader, hdrs, web
from aiohttp.http import RawRequestMessage

from aiaas_async.errors import MalformedError

_PIECE: Final = 1 << 15  # bytes; of one-byte chunks 5,461, which take 2 to 5 ms
_TURN_S: Final = 5e-4  # less than one piece of those; 256 KiB in chunks of 1 KiB take 2e-4
_HEAD_BYTES: Final = 1 << 12  # of heads that are looked for
_HEAD: Final = re.compile(
    rb"(?:POST|PUT) /[^\r\n]* HTTP/1\.1\r\n(?:[\w-]+:[^\r\n]*\r\n)*?"
    rb"Content-Length: ?(\d{1,18})\r\n(?:[\w-]+:[^\r\n]*\r\n)*\r\n",
    re.IGNORECASE,
)


class PiecewiseHandler(web.RequestHandler):
    """aiohttp's, of which this holds one read at most: while some of it waits, no more is read.
    Nor is it parsed while aiohttp has paused reading, for its own bounds."""

    __slots__ = ("_at_once", "_latest", "_may_be_kept", "_next_turn", "_rest", "_waiting")

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        # What follows an `Upgrade` that is declined, aiohttp collects and parses in one piece.
        self._read_bufsize = _PIECE
        self._at_once = _PIECE  # bytes of a read that pass as they are; 0 before the next turn
        self._waiting = b""
        self._rest = 0  # bytes that will come of a declared body, as far as is known
        self._next_turn: asyncio.Handle | None = None
        self._may_be_kept = False
        self._latest: tuple[object, StreamReader] | None = None  # of the messages parsed

    def data_received(self, data: bytes) -> None:
        """aiohttp calls this with nothing for its parser to go on with what it kept, which comes
        before what waits here."""
        size = len(data)
        if size <= self._at_once:
            self._rest = self._rest - size if size < self._rest else 0
            self._parse(data)
        elif self._waiting:
            self._waiting += data
        elif size <= self._rest:
            self._rest -= size
            super().data_received(data)
        elif self._is_declared(data):
            self._parse(data)
            if self._message_tail:  # a CONNECT, begun in an earlier read
                self.force_close()
        else:
            self._waiting = data
            self._parse_waiting()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp calls this for each chunk that is read, and has its parser go on with nothing:
        two thirds of what it takes to read a one-byte chunk. Only what was paused need go on."""
        if self._reading_paused and not resume_parser:
            # At the end of a body aiohttp forgets that its parser may be told to pause.
            self._may_be_kept = True
        if self._reading_paused or self._may_be_kept:
            super().resume_reading(resume_parser)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._waiting = b""
        if self._next_turn is not None:
            self._next_turn.cancel()
        super().connection_lost(exc)

    def _parse(self, data: bytes) -> None:
        before = self._latest
        super().data_received(data)
        if self._messages:
            self._latest = latest = self._messages[-1]
            if before is not None and latest is not before:
                _break_off(before[1], latest[0])

    def _parse_waiting(self) -> None:
        until, in_time = time.monotonic() + _TURN_S, True
        while in_time and self._waiting and not self._is_held():
            size = max(_PIECE, self._declared_rest())
            piece, self._waiting = self._waiting[:size], self._waiting[size:]
            self._parse(piece)
            in_time = time.monotonic() < until
        if self._waiting or not in_time:
            self._at_once = 0
            self._pause_transport_reading()
            self._go_on_soon()
        elif not self._at_once:
            self._at_once = _PIECE
            if not self._is_held():
                self._resume_transport_reading()

    def _go_on_soon(self) -> None:
        if self._next_turn is None and not self._is_held():
            self._next_turn = self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._next_turn = None
        self._parse_waiting()

    def _is_held(self) -> bool:
        return self._reading_paused or self._buffer_paused

    def _resume_transport_reading(self) -> None:
        """aiohttp calls this when it holds reading no more."""
        if self._at_once:
            super()._resume_transport_reading()
        else:
            self._go_on_soon()

    def _is_declared(self, data: bytes) -> bool:
        """Whether `data` is of one body whose length was declared, with its head or without.

        A head is looked for where the parser expects one, or has begun one: its lines are then of
        that one, or it is refused.
        """
        if self._latest is None or not self._latest[1].is_eof():
            return self._leaves(self._declared_rest() - len(data))
        message = self._latest[0]
        if isinstance(message, RawRequestMessage) and message.upgrade:
            return False  # aiohttp may have parsed more since, where this does not see it
        head = _HEAD.match(data, 0, _HEAD_BYTES)
        return head is not None and self._leaves(head.end() + int(head[1]) - len(data))

    def _leaves(self, rest: int) -> bool:
        """Whether so many bytes can be left of a body; noted if they can."""
        self._rest = max(0, rest)
        return rest >= 0

    def _declared_rest(self) -> int:
        """How many bytes will come of the body that the parser is in; 0 where that is unknown."""
        message, content = self._latest or (None, None)
        # After an upgrade that was declined, aiohttp parses where this does not see it.
        if not isinstance(message, RawRequestMessage) or message.upgrade or content is None:
            return 0
        declared = message.headers.get(hdrs.CONTENT_LENGTH)
        return 0 if declared is None else int(declared) - content.total_bytes


def _break_off(content: StreamReader, message: object) -> None:
    """Tell who reads `content` that it does not go on as HTTP: aiohttp notes such an error as the
    next `message`, which would be answered once the body has been waited for in vain."""
    if not content.is_eof() and not isinstance(message, RawRequestMessage):
        content.set_exception(MalformedError("the body is not in chunks as HTTP/1.1 has them"))
