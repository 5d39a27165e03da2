"""Supervision: a failed task is started again, a few times; then it is given up, loudly.

The rule is Erlang/OTP's restart intensity: at most `max_restarts` in `window_s` seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)


class RestartIntensity:
    """Counts failures in a sliding window; pure, the caller brings the time (seconds)."""

    def __init__(self, max_restarts: int = 3, window_s: float = 5.0) -> None:
        self._max, self._window = max_restarts, window_s
        self._failures: deque[float] = deque()

    def record(self, now: float) -> bool:
        """Note a failure at `now`; whether another start is still allowed."""
        self._failures.append(now)
        while self._failures and self._failures[0] <= now - self._window:
            self._failures.popleft()
        return len(self._failures) <= self._max


async def supervise(
    name: str,
    run: Callable[[], Awaitable[None]],
    on_give_up: Callable[[BaseException], None],
    intensity: RestartIntensity | None = None,
) -> None:
    """Run `run()` until it returns; restart it when it raises, within `intensity`.

    `on_give_up` gets the last error and must answer whoever still waits. Cancellation passes.
    """
    allowed = intensity or RestartIntensity()
    while True:
        try:
            return await run()
        except Exception as error:
            if not allowed.record(asyncio.get_running_loop().time()):
                logger.exception("%s failed too often and is given up", name)
                on_give_up(error)
                return None
            logger.exception("%s failed and is restarted", name)
