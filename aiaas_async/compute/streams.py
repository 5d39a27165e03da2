"""Answers in parts that a worker is in the midst of: each part is computed when it is asked for.

Between two parts the worker does other jobs, so a long text holds up nobody; and a caller that
reads slowly, or has gone, costs no compute.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aiaas_async.compute.frames import Array
from aiaas_async.errors import OverloadedError, WorkerError

logger = logging.getLogger(__name__)

MAX_OPEN: Final = 256
Part = dict[str, Array]


@dataclass(slots=True)
class _Stream:
    model: str
    parts: Iterator[Part]
    until: float  # of `time.monotonic`


class OpenStreams:
    """Streams by id. One whose time is over goes when another is opened: its caller has gone."""

    def __init__(self) -> None:
        self._open: dict[str, _Stream] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self, stream: str, model: str, parts: Iterator[Part], seconds: float) -> None:
        """Raises `OverloadedError` when `MAX_OPEN` are open."""
        now = time.monotonic()
        for late in [each for each, known in self._open.items() if known.until < now]:
            self.close(late)
        if len(self._open) >= MAX_OPEN:
            raise OverloadedError(f"{MAX_OPEN} answers in parts are under way already")
        self._open[stream] = _Stream(model, parts, now + seconds)

    def next(self, stream: str) -> Part | None:
        """The next part; None after the last. A stream that raises is over.

        Raises `WorkerError` for one that is not open: its worker died, or its version was
        unloaded."""
        try:
            parts = self._open[stream].parts
        except KeyError:
            raise gone() from None
        try:
            part = next(parts, None)
        except BaseException:
            del self._open[stream]
            raise
        if part is None:
            del self._open[stream]
        return part

    def close(self, stream: str) -> None:
        """End a stream; one that is not open is fine."""
        known = self._open.pop(stream, None)
        closing = getattr(known and known.parts, "close", None)  # generators have it
        if closing is None:
            return
        try:
            closing()
        except Exception:
            logger.exception("a stream of %s failed when it was closed", known and known.model)

    def close_all(self, model: str) -> None:
        """End the streams of `model`."""
        for stream in [each for each, known in self._open.items() if known.model == model]:
            self.close(stream)


def gone() -> WorkerError:
    return WorkerError("the rest of this answer was lost with its worker; ask again")
