"""The memory that the workers of a distributed run share, and how they meet.

One anonymous segment: a line of counters and a line of numbers for each worker, then the weights,
the optimiser's slots, and each worker's gradients. A word has one writer. A worker that meets the
others raises its counter and waits until all are as high: a microsecond while it spins, then in
naps, so that a straggler costs no core.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from aiaas_async.nn.layer import Array
from aiaas_async.training.plan import MAX_NODES
from aiaas_async.training.reduce import Vector, add_in_order, segments, share

HEADER_BYTES: Final = 1 << 16
_WIDTH: Final = 8
_SPIN_S: Final = 200e-6
_NAP_S: Final = 50e-6


class Memory(Protocol):
    """Memory that others see too, zeros at first."""

    def view(self, nbytes: int) -> memoryview:
        """The first `nbytes`; it grows to hold them."""
        ...


class Count(IntEnum):
    """A worker's counters: `MET` meetings, `BEAT` signs of life, whether it is `WAITING`, and
    whether it ordered a `STOP` (only the first worker does)."""

    MET = 0
    BEAT = 1
    WAITING = 2
    STOP = 3


class Number(IntEnum):
    """A worker's numbers: of a step, of a validation, and seconds since the start."""

    LOSS = 0
    RIGHT = 1
    DECIDED = 2
    NORM = 3
    VALIDATION = 4  # and the two after it
    BUSY_S = 7


class Header:
    """Counters and numbers of all workers; the server looks at them too."""

    def __init__(self, memory: Memory) -> None:
        raw = memory.view(HEADER_BYTES)
        half = MAX_NODES * _WIDTH * 8
        self.counts: NDArray[np.int64] = np.frombuffer(raw[:half], np.int64).reshape(-1, _WIDTH)
        self.numbers: NDArray[np.float64] = np.frombuffer(raw[half : 2 * half], np.float64).reshape(
            -1, _WIDTH
        )


class Crew:
    """Worker `rank` of `world`, in `memory`. `slots` is how many vectors the optimiser keeps."""

    def __init__(
        self, memory: Memory, vector: Vector, slots: int, place: tuple[int, int], dtype: Any
    ) -> None:
        self.rank, self.world = place
        self._header = Header(memory)
        size = vector.size * np.dtype(dtype).itemsize
        count = 1 + slots + self.world
        raw = memory.view(HEADER_BYTES + count * size)[HEADER_BYTES:]
        flat = np.frombuffer(raw, dtype, count * vector.size).reshape(count, vector.size)
        self.weights, self.slots, self._grads = flat[0], flat[1 : 1 + slots], flat[1 + slots :]
        self.mine = segments(vector.size, self.world)[self.rank]
        self._views = vector.views(self._grads[self.rank])
        self._sum = np.empty(self.mine.stop - self.mine.start, dtype)
        self._met = self._header.counts[: self.world, Count.MET]
        self._own = self._header.counts[self.rank]
        self._numbers = self._header.numbers[: self.world]
        self._meetings = 0
        self._fence = threading.Lock()

    def share(self, count: int) -> slice:
        """The part of `count` items that is this worker's."""
        return share(count, self.rank, self.world)

    def beat(self, busy_s: float = 0.0) -> None:
        """A sign of life; `busy_s` seconds of work were done."""
        self._own[Count.BEAT] += 1
        self._numbers[self.rank, Number.BUSY_S] += busy_s

    def say(self, at: Number, *values: float) -> None:
        """Numbers for the others to read after the next meeting."""
        self._numbers[self.rank, at : at + len(values)] = values

    def told(self, at: int) -> list[float]:
        """What each worker said, in order."""
        found: list[float] = self._numbers[:, at].tolist()
        return found

    def total(self, at: int) -> float:
        """The sum of what all said, always in the same order."""
        return float(sum(self.told(at)))

    def offer(self, grads: dict[str, Array] | None) -> None:
        """This worker's gradients for the others to add up; None: it had no items."""
        for name, view in self._views.items():
            if grads is None:
                view.fill(0)
            else:
                np.copyto(view, grads[name])

    def reduce(self) -> Array:
        """This worker's segment of the sum of all gradients."""
        return add_in_order([grads[self.mine] for grads in self._grads], self._sum)

    def order_stop(self) -> None:
        self._own[Count.STOP] = 1

    @property
    def stopping(self) -> bool:
        """Whether the first worker has ordered a stop; all read the same after a meeting."""
        return bool(self._header.counts[0, Count.STOP])

    def meet(self) -> Iterator[None]:
        """Wait until every worker is here; yields while it waits."""
        self._meetings += 1
        # Taking a lock is a memory barrier: what was written is seen before the counter is.
        with self._fence:
            self._own[Count.MET] = self._meetings
        started = time.perf_counter()
        while int(self._met.min()) < self._meetings:
            self._own[Count.WAITING] = 1
            if time.perf_counter() - started > _SPIN_S:
                time.sleep(_NAP_S)
            yield
        with self._fence:
            self._own[Count.WAITING] = 0
        self.beat()
