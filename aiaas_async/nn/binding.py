"""Threads that keep a core each, for as long as they compute parts of the same products.

Left alone, a kernel may wake a thread on the core of the one that wakes it, and notice only at a
later tick that another is idle. On a virtual machine whose kernel packs its cores one of ten such
threads began 1.6 ms late, and most after a pause: four products took 12 ms with two threads, as
with one, and take 9.9 where each keeps its core.

A thread that is started while its starter is bound inherits the one core.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Final


def _reader() -> Callable[[], int] | None:
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), "sched_getcpu", None)


_current_core: Final = _reader()
_CALLER: Final = 0  # the calling thread, to the system


class Binding:
    """Of a thread and those that help it."""

    def __init__(self) -> None:
        self._free: set[int] = set()  # the caller's cores, while it is bound to one
        self._core_of: dict[int, int] = {}  # of helpers

    @property
    def held(self) -> bool:
        """Whether the caller is bound."""
        return bool(self._free)

    def bind(self, helpers: Sequence[int]) -> None:
        """Leave the caller where it is, and give each of `helpers`, by native ids, another core;
        until `release`. Only if together they have every core that the caller may use: else none
        is known to be theirs. Where the system forbids it, they go on as they are."""
        if self._free or _current_core is None:
            return
        cores, here = os.sched_getaffinity(_CALLER), _current_core()
        if len(cores) != len(helpers) + 1 or here not in cores:
            self._let_go(cores)
            return
        moved, before = dict(zip(helpers, sorted(cores - {here}), strict=True)), self._core_of
        self._core_of = moved
        asked = [(helper, {core}) for helper, core in moved.items() if before.get(helper) != core]
        if _place([*asked, (_CALLER, {here})]):
            self._free = cores
        else:
            self._let_go(cores)

    def release(self) -> None:
        """Let the caller go wherever it might before. Its helpers, which sleep, stay."""
        if self._free and _place([(_CALLER, self._free)]):
            self._free = set()

    def _let_go(self, cores: set[int]) -> None:
        """Helpers may use all `cores`."""
        for helper in self._core_of:
            _place([(helper, cores)])
        self._core_of = {}


def _place(threads: Iterable[tuple[int, set[int]]]) -> bool:
    """Whether each thread could be given its cores."""
    try:
        for thread, cores in threads:
            os.sched_setaffinity(thread, cores)
    except OSError:
        return False
    return True
