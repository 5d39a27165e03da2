"""Work that a test holds in its thread."""

from __future__ import annotations

import asyncio
import threading


class Held:
    """Work that is under way until it is `free`; how often it is so at once."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.now = self.most = 0
        self._begun = threading.Semaphore(0)
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self._begun.release()
        assert self.free.wait(10)
        with self._lock:
            self.now -= 1
        return 7

    async def is_begun(self) -> None:
        assert await asyncio.to_thread(self._begun.acquire, timeout=10)
