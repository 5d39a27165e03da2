"""A lock for tests of what happens while somebody waits."""

from __future__ import annotations

from threading import Event, RLock
from types import TracebackType


class Contested:
    """A lock that tells when somebody has to wait for it."""

    def __init__(self, waited_for: Event) -> None:
        self._lock, self._waited_for = RLock(), waited_for

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._waited_for.set()
            self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()
