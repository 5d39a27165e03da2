"""Traffic of an alias: which version a call goes to, and who gets a copy.

A call with a key always goes to the same side, and so do the calls of a sequence; others are drawn.
Copies for a shadow run with what the nodes have to spare, a bounded number at a time, and their
answers are only counted.
"""

from __future__ import annotations

import asyncio
import logging
import random
import zlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from aiaas_async.errors import AiaasError
from aiaas_async.registry.records import AliasRecord

logger = logging.getLogger(__name__)

MAX_COPIES: Final = 64


def tell_alias(record: AliasRecord) -> None:
    """One line of the log: where an alias is now."""
    traffic = record.traffic
    canary = f", canary {traffic.canary} for {traffic.weight:g} of the calls"
    shadow = f", shadow {traffic.shadow}"
    logger.info(
        "alias %s:%s is at %s%s%s (revision %d)",
        *(record.name, record.alias, record.version, canary if traffic.canary else ""),
        *(shadow if traffic.shadow else "", record.revision),
    )


def choose(alias: AliasRecord, key: str | None) -> str:
    """The version of `alias` that a call with `key` goes to."""
    traffic = alias.traffic
    if traffic.canary is None:
        return alias.version
    drawn = random.random() if key is None else zlib.crc32(key.encode()) / 2**32  # noqa: S311
    return traffic.canary if drawn < traffic.weight else alias.version


@dataclass(slots=True)
class ShadowStatistics:
    """Counts since start: copies that were answered, failed, or left out because too many ran, or
    the server stopped."""

    answered: int = 0
    failed: int = 0
    left_out: int = 0


class Shadows:
    """Copies under way."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[object]] = set()
        self._stopped = False
        self.statistics = ShadowStatistics()

    def send(self, copy: Coroutine[Any, Any, object]) -> None:
        """Run `copy` beside everything else, or leave it out."""
        if self._stopped or len(self._under_way) >= MAX_COPIES:
            copy.close()
            self.statistics.left_out += 1
            return
        task = asyncio.create_task(copy)
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, copy: asyncio.Task[object]) -> None:
        self._under_way.discard(copy)
        if copy.cancelled():
            return
        error = copy.exception()
        if error is None:
            self.statistics.answered += 1
            return
        self.statistics.failed += 1
        if not isinstance(error, AiaasError):
            logger.error("a copy for a shadow met a defect", exc_info=error)

    async def settled(self) -> None:
        """Wait for the copies under way."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def stop(self) -> None:
        """Begin no copy any more, and end those under way: nobody waits for them."""
        self._stopped = True
        for task in self._under_way:
            task.cancel()
        await self.settled()
