"""Where a batch job's items come from and where its results go.

Workers read the items themselves, from mapped files; the event loop only says which rows. Results
are stored in threads. What is in memory at once is the results of a few tasks and of one pack.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiaas_async.compute.jobs import InputFile
from aiaas_async.data.items import checksums
from aiaas_async.data.journal import joined
from aiaas_async.data.keys import Keys
from aiaas_async.data.layout import folder_of
from aiaas_async.data.reports import Known
from aiaas_async.data.source import Extent, Source
from aiaas_async.errors import InputError
from aiaas_async.names import clip
from aiaas_async.node.work import Scanning, Servable
from aiaas_async.schedule.divide import Task
from aiaas_async.service.datasets import Datasets
from aiaas_async.wire.arrays import read_inputs
from aiaas_async.wire.tensors import Array

# Results are stored at once until they are so many or so old: each time costs some waits for the
# disk, and what was not stored when the server is killed is computed again.
PACK_S: Final = 0.2
PACK_ITEMS: Final = 131_072
PACK_BYTES: Final = 16 << 20
# Near the end sooner: those that are so many, and so many times those still to come. Of 100,000
# items 6,000 are left for the end then; fewer take no longer than the disk makes them wait.
EARLY_ITEMS: Final = 16_384
EARLY_TIMES: Final = 3
_CHUNK: Final = 65_536

Indices = NDArray[np.int64]


class Reader:
    """The items still to do, by the node that holds them."""

    def __init__(
        self,
        source: Source,
        done: Source,
        wiring: Mapping[str, str],
        nodes: Sequence[str],
        newest: int | None = None,
    ) -> None:
        """`newest` is the sequence number of the last item when the job was accepted: results of
        later ones are perhaps of what they replaced."""
        self.source, self._wiring = source, dict(wiring)
        self._extents = {
            next((node for node in nodes if folder_of(node, folder)), folder): extent
            for folder, extent in source.extents(missing(source, done, newest)).items()
        }
        self._files = {home: self._inputs(extent) for home, extent in self._extents.items()}
        self.total = len(source)
        # Which item of `done` comes next, if no last ones were deleted: `Known.new_at` then. None
        # where some of them are to be replaced.
        self.next_result: int | None = int(done.seqs[-1]) + 1 if len(done) else 1
        if len(done) and len(source) and newest is not None and source.seqs[-1] > newest:
            self.next_result = None

    def _inputs(self, extent: Extent) -> tuple[InputFile, ...]:
        return tuple(
            InputFile(name, str(extent.files[column]), self.source.columns[column])
            for name, column in self._wiring.items()
        )

    @property
    def counts(self) -> dict[str, int]:
        """How many items are still to do at each node."""
        return {home: len(extent.items) for home, extent in self._extents.items()}

    def items(self, task: Task) -> Indices:
        """Which items of the source the task means."""
        return self._extents[task.home].items[task.start : task.stop]

    def scanning(self, task: Task, servable: Servable, outputs: tuple[str, ...]) -> Scanning:
        """The task for a worker, which reads the items where they lie."""
        start, stop, picked = self._extents[task.home].span(task.start, task.stop)
        return Scanning(servable, self._files[task.home], start, stop, outputs, picked)

    def keys(self, task: Task) -> tuple[Keys, NDArray[Any]]:
        """The keys of the task's items, and their `journal.ROW`s."""
        return self._extents[task.home].keys(task.start, task.stop)

    def read(self, task: Task, servable: Servable) -> dict[str, Array]:
        """The task's inputs, for a version that no single worker runs. Blocks."""
        columns = self.source.look(self.items(task), set(self._wiring.values()))
        raw = {name: columns[column] for name, column in self._wiring.items()}
        return read_inputs(raw, servable.inputs, servable.allow_nonfinite).arrays

    def at_fault(self, task: Task, error: InputError) -> InputError:
        """`error` with the items in which it was met."""
        return at_items(self.source.keys(self.items(task)), error)


def at_items(keys: Sequence[str], error: InputError) -> InputError:
    """`error` with the items in which it was met."""
    where = clip(keys[0]) if len(keys) == 1 else f"{clip(keys[0])} to {clip(keys[-1])}"
    return InputError(
        f"items {where} ({len(keys)} in the order of arrival): {error.message}",
        {**error.details, "first_key": keys[0], "last_key": keys[-1]},
    )


def missing(source: Source, done: Source, newest: int | None = None) -> NDArray[np.bool_] | None:
    """Which items of `source` have a key that `done` has not, or came after the one with sequence
    number `newest`; None: all of them."""
    if not len(done):
        return None
    theirs = done.hashes(np.arange(len(done)))
    order = np.argsort(theirs)
    mine = source.hashes(np.arange(len(source)))
    places = order[np.minimum(np.searchsorted(theirs, mine, sorter=order), len(done) - 1)]
    candidates = np.flatnonzero(theirs[places] == mine)
    found = np.zeros(len(source), np.bool_)
    # The hash alone would be wrong once in 10^8 jobs of a million items.
    for start in range(0, len(candidates), _CHUNK):
        some = candidates[start : start + _CHUNK]
        pairs = zip(source.packed_keys(some), done.packed_keys(places[some]), strict=True)
        found[some] = [one == other for one, other in pairs]
    return ~found if newest is None else ~found | (source.seqs > newest)


@dataclass(frozen=True, slots=True)
class Results:
    """What a task computed: columns [k, *shape], and the checksum of each row if the worker has
    told it."""

    task: Task
    columns: Mapping[str, Array]
    checksums: Array | None = None


class Sink:
    """Results on their way into data set `name`: while one pack is stored, the next one fills."""

    def __init__(self, datasets: Datasets, name: str, reader: Reader) -> None:
        self._datasets, self._name, self._reader = datasets, name, reader
        self._next = reader.next_result
        self._pack: list[Results] = []
        self._items = self._bytes = 0
        self._loop = asyncio.get_running_loop()
        self._began = 0.0  # when the pack got its first results
        self._storing: asyncio.Task[None] | None = None
        self._left = sum(reader.counts.values())  # items whose results are still to come
        self.stored = 0

    async def add(self, results: Results) -> None:
        """Take the results of some items; waits only where the pack is full and the last one not
        stored yet.

        Raises what storing the last one raised."""
        if not self._pack:
            self._began = self._loop.time()
        self._pack.append(results)
        self._items += results.task.items
        self._left -= results.task.items
        self._bytes += sum(array.nbytes for array in results.columns.values())
        while self._full and self._storing is not None:
            await self._stored()
        if self._full or (self._enough and self._idle):
            self._store()

    async def flush(self) -> None:
        """Store what was taken, durably."""
        while self._pack or self._storing is not None:
            if self._storing is None:
                self._store()
            await self._stored()

    @property
    def _full(self) -> bool:
        if not self._pack:
            return False
        old = self._loop.time() - self._began >= PACK_S
        return old or self._items >= PACK_ITEMS or self._bytes >= PACK_BYTES

    @property
    def _enough(self) -> bool:
        """Whether so much is here, and so little to come, that the job ends sooner if this is
        stored while the rest is computed."""
        return self._items >= max(EARLY_ITEMS, EARLY_TIMES * self._left)

    @property
    def _idle(self) -> bool:
        """Whether no pack is being stored. Raises what storing the last one raised."""
        if self._storing is not None and self._storing.done():
            self._storing.result()
            self._storing = None
        return self._storing is None

    def _store(self) -> None:
        pack, items = self._pack, self._items
        self._pack, self._items, self._bytes = [], 0, 0
        self._storing = asyncio.create_task(self._put(pack, self._next))
        if self._next is not None:
            self._next += items

    async def _put(self, pack: list[Results], first: int | None) -> None:
        results = partial(_joined, self._reader, pack, first)
        await self._datasets.put_results(self._name, results)
        self.stored += sum(each.task.items for each in pack)

    async def _stored(self) -> None:
        """Wait for the pack that is being stored. Cancelling the waiter does not stop it."""
        storing = self._storing
        if storing is None:
            return
        await asyncio.wait([storing])
        if self._storing is storing:
            self._storing = None
        storing.result()


def _joined(
    reader: Reader, pack: Sequence[Results], new_at: int | None
) -> tuple[Keys, dict[str, Array], Known]:
    """A pack as one: its keys, its columns, and what is known of its items."""
    # In the order in which they lie: then what belongs to one shard is copied in a run.
    pack = sorted(pack, key=lambda each: (each.task.home, each.task.start))
    columns = {
        name: np.concatenate([each.columns[name] for each in pack]) for name in pack[0].columns
    }
    told = [checksums(each.columns) if each.checksums is None else each.checksums for each in pack]
    keys, rows = zip(*(reader.keys(task) for task in _merged(pack)), strict=True)
    known = Known(joined(rows), np.concatenate(told), new_at)
    return Keys.joined(keys), columns, known


def _merged(pack: Sequence[Results]) -> list[Task]:
    """The tasks of a pack in order, those that go on with the one before as one with it."""
    tasks = [pack[0].task]
    for each in pack[1:]:
        if tasks[-1].precedes(each.task):
            tasks[-1] = tasks[-1].joined(each.task)
        else:
            tasks.append(each.task)
    return tasks
