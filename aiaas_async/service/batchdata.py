"""Where a batch job's items come from and where its results go.

Both block on the disk, so both work in threads: the event loop only passes arrays on. What is in
memory at once is a few tasks' items and one pack of results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiaas_async.data.layout import shard_folder
from aiaas_async.data.schema import Column
from aiaas_async.data.source import Source
from aiaas_async.errors import InputError, InvalidError
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.messages import TensorSpec
from aiaas_async.names import clip
from aiaas_async.node.work import Servable
from aiaas_async.schedule.divide import Task
from aiaas_async.service.datasets import Datasets
from aiaas_async.wire.arrays import read_inputs
from aiaas_async.wire.tensors import Array

PACK_ITEMS: Final = 8192  # results stored at once: each time costs some waits for the disk
PACK_BYTES: Final = 16 << 20
_CHUNK: Final = 65_536

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Items:
    """A task's items: keys, where each lies on the ring, and what goes into the model."""

    keys: list[str]
    hashes: Array
    inputs: dict[str, Array]


class Reader:
    """The items still to do, by the node that holds them. Its functions block."""

    def __init__(
        self,
        source: Source,
        done: Source,
        servable: Servable,
        wiring: Mapping[str, str],
        nodes: Sequence[str],
    ) -> None:
        self._source, self._servable, self._wiring = source, servable, dict(wiring)
        homes = {shard_folder(node): node for node in nodes}
        left = missing(source, done)
        self._homes = {
            homes.get(folder, folder): np.intersect1d(items, left, assume_unique=True)
            for folder, items in source.by_shard().items()
        }
        self.total = len(source)

    @property
    def counts(self) -> dict[str, int]:
        """How many items are still to do at each node."""
        return {home: len(items) for home, items in self._homes.items()}

    def read(self, task: Task) -> Items:
        """The task's items. Raises `InputError` naming those at fault."""
        items = self._homes[task.home][task.start : task.stop]
        keys = self._source.keys(items)
        columns = self._source.look(items, set(self._wiring.values()))
        raw = {name: columns[column] for name, column in self._wiring.items()}
        try:
            batch = read_inputs(raw, self._servable.inputs, self._servable.allow_nonfinite)
        except InputError as error:
            raise at_items(keys, error) from error
        return Items(keys, self._source.facts(items)["hash"], batch.arrays)


def at_items(keys: Sequence[str], error: InputError) -> InputError:
    """`error` with the items in which it was met."""
    where = clip(keys[0]) if len(keys) == 1 else f"{clip(keys[0])} to {clip(keys[-1])}"
    return InputError(
        f"items {where} ({len(keys)} in the order of arrival): {error.message}",
        {**error.details, "first_key": keys[0], "last_key": keys[-1]},
    )


def missing(source: Source, done: Source) -> Indices:
    """Which items of `source` have a key that `done` has not, ascending."""
    everything = np.arange(len(source))
    if not len(done):
        return everything
    theirs = done.facts(np.arange(len(done)))["hash"]
    order = np.argsort(theirs)
    mine = source.facts(everything)["hash"]
    places = order[np.minimum(np.searchsorted(theirs, mine, sorter=order), len(done) - 1)]
    candidates = np.flatnonzero(theirs[places] == mine)
    found = np.zeros(len(source), np.bool_)
    # The hash alone would be wrong once in 10^8 jobs of a million items.
    for start in range(0, len(candidates), _CHUNK):
        some = candidates[start : start + _CHUNK]
        pairs = zip(source.packed_keys(some), done.packed_keys(places[some]), strict=True)
        found[some] = [one == other for one, other in pairs]
    return np.flatnonzero(~found)


class Sink:
    """Results on their way into a data set: while one pack is stored, the next one fills."""

    def __init__(self, datasets: Datasets, name: str) -> None:
        self._datasets, self._name = datasets, name
        self._pack: list[tuple[Items, Mapping[str, Array]]] = []
        self._items = self._bytes = 0
        self._storing: asyncio.Task[None] | None = None
        self.stored = 0

    async def add(self, items: Items, results: Mapping[str, Array]) -> None:
        """Take the results of some items; waits only where the pack is full and the last one not
        stored yet.

        Raises what storing the last one raised."""
        # Their inputs have served, and are many times as large.
        self._pack.append((replace(items, inputs={}), results))
        self._items += len(items.keys)
        self._bytes += sum(array.nbytes for array in results.values())
        while self._full and self._storing is not None:
            await self._stored()
        if self._full:
            self._store()

    async def flush(self) -> None:
        """Store what was taken, durably."""
        while self._pack or self._storing is not None:
            if self._storing is None:
                self._store()
            await self._stored()

    @property
    def _full(self) -> bool:
        return self._items >= PACK_ITEMS or self._bytes >= PACK_BYTES

    def _store(self) -> None:
        pack, self._pack = self._pack, []
        self._items = self._bytes = 0
        self._storing = asyncio.create_task(self._put(pack))

    async def _put(self, pack: list[tuple[Items, Mapping[str, Array]]]) -> None:
        keys = [key for items, _ in pack for key in items.keys]
        hashes = np.concatenate([items.hashes for items, _ in pack])
        columns = await asyncio.to_thread(_joined, [results for _, results in pack])
        await self._datasets.put_results(self._name, keys, columns, hashes)
        self.stored += len(keys)

    async def _stored(self) -> None:
        """Wait for the pack that is being stored. Cancelling the waiter does not stop it."""
        storing = self._storing
        if storing is None:
            return
        await asyncio.wait([storing])
        if self._storing is storing:
            self._storing = None
        storing.result()


def _joined(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def wire(
    columns: Mapping[str, Column], inputs: Sequence[TensorSpec], asked: Mapping[str, str]
) -> dict[str, str]:
    """The column for each input: `asked` (column → input), else the column of the same name.

    Raises `InvalidError` or `InputError` when columns and inputs do not fit.
    """
    names = [spec.name for spec in inputs]
    for column, name in asked.items():
        if column not in columns:
            raise InvalidError(f"there is no column {clip(column)}; columns: {sorted(columns)}")
        if name not in names:
            raise InvalidError(f"the model has no input {clip(name)}; inputs: {names}")
    if len(set(asked.values())) < len(asked):
        raise InvalidError(f"two columns go to one input: {clip(dict(asked))}")
    wiring: dict[str, str] = {name: column for column, name in asked.items()}
    for name in names:
        if wiring.setdefault(name, name) not in columns:
            raise InvalidError(
                f"no column for input {clip(name)}: say which in 'inputs' ({{column: input}}); "
                f"columns: {sorted(columns)}"
            )
    _check_fit(columns, inputs, wiring)
    return wiring


def _check_fit(
    columns: Mapping[str, Column], inputs: Sequence[TensorSpec], wiring: Mapping[str, str]
) -> None:
    """Read one item of zeros as a task reads many: whatever the values, it must fit."""
    for spec in inputs:
        column = columns[wiring[spec.name]]
        zeros = np.zeros((1, *column.shape), column.numpy)
        if not read_inputs({spec.name: zeros}, [spec]).batched:
            raise InputError(
                f"column {wiring[spec.name]} has items of shape {list(column.shape)}, input "
                f"{spec.name!r} takes {list(spec.shape or ())}"
            )


def result_columns(
    specs: Sequence[TensorSpec], asked: Sequence[str] | None
) -> dict[str, dict[str, Any]]:
    """The columns of the result data set: the outputs `asked` for, or all that it can hold.

    Raises `InvalidError` for an output there is not, or whose items have no fixed size.
    """
    known = {spec.name: spec for spec in specs}
    if asked is None:
        asked = [spec.name for spec in specs if _storable(spec)]
        if not asked:
            raise InvalidError(
                "no output of the model can be stored: a data set holds numbers of a fixed shape, "
                f"and {sorted(known)} are texts or of open length"
            )
    if not asked or len(set(asked)) < len(asked):
        raise InvalidError(
            f"'outputs' must name outputs of numbers, each once; outputs: {sorted(known)}"
        )
    columns: dict[str, dict[str, Any]] = {}
    for name in asked:
        if name not in known:
            raise InvalidError(f"the model has no output {clip(name)}; outputs: {sorted(known)}")
        spec = known[name]
        if not _storable(spec):
            raise InvalidError(
                f"output {clip(name)} is {spec.dtype} {list(spec.shape or ())}: a data set holds "
                "numbers of a fixed shape; leave it out by 'outputs'"
            )
        columns[name] = {"dtype": spec.dtype, "shape": list(spec.shape or ())}
    return columns


def _storable(spec: TensorSpec) -> bool:
    return spec.dtype in NUMPY and spec.shape is not None and all(d > 0 for d in spec.shape)
