"""Coalescing: which waiting calls go to the worker as one batch. Pure policy.

Calls join when they are of the same flow and version, ask for the same outputs, and their arrays
agree in dtype and item shape (a version may accept any length). Nothing waits for company by
default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aiaas_async.compute.frames import Array, Pieces
from aiaas_async.compute.jobs import Texts
from aiaas_async.node.work import Call, WorkItem

# Laying a batch into shared memory happens in the event loop: 4 MiB take about 1 ms.
MAX_BATCH_BYTES = 4 << 20
_NOTHING: Final[Mapping[str, bool]] = {}


class Batch:
    """Calls that go together; `rows` in total."""

    def __init__(self, first: WorkItem, call: Call) -> None:
        self.items: list[WorkItem] = [first]
        self.calls: list[Call] = [call]
        self.rows = call.rows
        self._bytes = first.cost
        self._shape = _shape(call.arrays)
        self.servable = call.servable
        self.outputs = call.outputs
        self._unread = _unread(call)
        self._alone, self._flow = first.alone, first.flow

    @property
    def space(self) -> int:
        """Rows that may still join."""
        return 0 if self._alone else max(0, self.servable.max_batch_size - self.rows)

    def joiner(self) -> Callable[[WorkItem], bool]:
        """A predicate to sweep a mailbox with: it counts what it accepts."""
        rows, size = self.space, MAX_BATCH_BYTES - self._bytes

        def joins(item: WorkItem) -> bool:
            nonlocal rows, size
            call = item.message
            if not isinstance(call, Call) or not self._fits(item, call):
                return False
            if call.rows > rows or item.cost > size:
                return False
            rows -= call.rows
            size -= item.cost
            return True

        return joins

    def _fits(self, item: WorkItem, call: Call) -> bool:
        return (
            not item.alone
            and item.flow == self._flow
            and call.servable is self.servable
            and call.outputs == self.outputs
            and _unread(call) == self._unread
            and (call.servable.rigid or _shape(call.arrays) == self._shape)
        )

    def extend(self, items: Sequence[WorkItem]) -> None:
        for item in items:
            call = item.message
            assert isinstance(call, Call)
            self.items.append(item)
            self.calls.append(call)
            self.rows += call.rows
            self._bytes += item.cost

    def pieces(self) -> list[Pieces]:
        """The batch's arrays, still in pieces: one per call."""
        if len(self.calls) == 1 and not self._unread:
            return [Pieces(name, (array,)) for name, array in self.calls[0].arrays.items()]
        arrays = [
            Pieces(name, [call.arrays[name] for call in self.calls])
            for name in self.calls[0].arrays
        ]
        texts = [
            Pieces(name, [part for call in self.calls for part in call.unread[name].as_bytes])
            for name in self._unread
        ]
        return arrays + texts

    def texts(self) -> tuple[Texts, ...]:
        """What is to be known of the pieces that are still to be read."""
        if not self._unread:
            return ()
        return tuple(
            [
                Texts(
                    name,
                    self.calls[0].unread[name].shape[1:],
                    tuple([(call.rows, call.unread[name].nbytes) for call in self.calls]),
                    raw,
                )
                for name, raw in self._unread.items()
            ]
        )

    def split(self, arrays: Mapping[str, Array]) -> list[Mapping[str, Array]]:
        """The answer's arrays [rows, …] cut back into one mapping per call."""
        if len(self.calls) == 1:
            return [arrays]
        parts: list[Mapping[str, Array]] = []
        start = 0
        for call in self.calls:
            end = start + call.rows
            parts.append({name: array[start:end] for name, array in arrays.items()})
            start = end
        return parts


def _unread(call: Call) -> Mapping[str, bool]:
    """The inputs of a call that are not read yet, and whether they are raw."""
    return {name: each.raw for name, each in call.unread.items()} if call.unread else _NOTHING


def _shape(arrays: Mapping[str, Array]) -> list[tuple[str, tuple[int, ...], object]]:
    return [(name, array.shape[1:], array.dtype) for name, array in arrays.items()]
