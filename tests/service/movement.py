"""A move of a data set's items that a test holds in its middle."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from aiaas_async.data import dataset, move


class HeldMove:
    """Where items are to move, their data set is held as it is while one moves, until it is `free`.
    With an `error` the move fails then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.reached, self.free = asyncio.Event(), threading.Event()
        loop, whole = asyncio.get_running_loop(), move.prepare_move

        def held(*given: Any) -> int:
            loop.call_soon_threadsafe(self.reached.set)
            assert self.free.wait(10)
            if error is not None:
                raise error
            return whole(*given)

        monkeypatch.setattr(dataset, "prepare_move", held)
