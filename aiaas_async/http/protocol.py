"""A connection: aiohttp's, with a deadline for the first request and errors in our own form.

aiohttp waits for ever for a request's head, answers what is no HTTP in plain text that repeats
the bytes, and logs a traceback for each.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any, Final, cast

from aiohttp import web

from aiaas_async.errors import AiaasError, InternalError, MalformedError
from aiaas_async.http.admission import Admission, TurnedAway
from aiaas_async.http.budget import BodyBudget
from aiaas_async.http.exchange import refusal
from aiaas_async.http.pieces import PiecewiseHandler
from aiaas_async.names import clip

logger = logging.getLogger(__name__)

HEAD_TIMEOUT_S: Final = 10.0  # from the connection to its first request


class Connection(PiecewiseHandler):
    """Takes the arguments of aiohttp's own as well. What waits to be read is the server's memory:
    it is counted in `budget`, and who reads replies slower than its pace is cut off."""

    __slots__ = ("_address", "_admission", "_budget", "_head_timer", "_reader_timer", "_unread")

    def __init__(
        self, manager: web.Server, admission: Admission, budget: BodyBudget, **options: Any
    ) -> None:
        super().__init__(manager, **options)
        self._admission, self._budget = admission, budget
        self._address = ""
        self._unread = 0  # bytes of replies that the budget knows of
        self._head_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self._address = peer[0] if peer else ""
        refused = self._admission.admit(self._address)
        if refused is not None:
            # uvloop's transports are of no class of asyncio's.
            turned_away = TurnedAway(cast("asyncio.Transport", transport), self._admission)
            transport.set_protocol(turned_away)
            turned_away.answer(refused)
            return
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(HEAD_TIMEOUT_S, self._give_up_waiting)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        if self._reader_timer is not None:
            self._reader_timer.cancel()
        self._admission.leave(self._address)
        self._count_unread(0)
        super().connection_lost(exc)

    def _give_up_waiting(self) -> None:
        # Between later requests the keep-alive timer does this.
        if self._request_count == 0:
            self.force_close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._count_unread(0)
        if self._reader_timer is not None:
            self._reader_timer.cancel()

    def _count_unread(self, nbytes: int) -> None:
        self._budget.hold(nbytes - self._unread)
        self._unread = nbytes

    def _watch_reader(self) -> None:
        if self.transport is None:
            return
        unread = self.transport.get_write_buffer_size()
        self._count_unread(unread)
        if self._budget.pace.rate:
            grace = self._budget.pace.grace_s
            self._reader_timer = self._loop.call_later(grace, self._check_reader, unread)

    def _check_reader(self, unread_before: int) -> None:
        """While writing is paused nothing is added: what is less was read."""
        if self.transport is None:
            return
        moved = unread_before - self.transport.get_write_buffer_size()
        pace = self._budget.pace
        if pace.keeps(moved, pace.grace_s):
            self._watch_reader()
            return
        logger.info("a connection is cut off: its replies are read too slowly")
        self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what never reached a handler, or to an error that left one."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already")
        response = refusal(request, _as_ours(status, exc, message))
        response.force_close()
        return response


def _as_ours(status: int, exc: BaseException | None, message: str | None) -> AiaasError:
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        reason = (message or "").partition("\n")[0].rstrip(":")
        logger.debug("a request that is not HTTP: %s", clip(reason))
        return MalformedError(f"the request is not HTTP/1.1: {clip(reason)}")
    logger.error("defect outside of a handler", exc_info=exc)
    return InternalError("a defect of the server; its log tells more")
