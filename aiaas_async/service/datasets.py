"""Data sets for the event loop: the library's blocking functions, in threads.

Items come and go as columns: a key names a row of each.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar

import msgspec

from aiaas_async.data.dataset import Dataset
from aiaas_async.data.keys import Keys
from aiaas_async.data.library import Library
from aiaas_async.data.reports import Known, Page, PutReport
from aiaas_async.data.schema import DatasetSpec
from aiaas_async.data.source import Source
from aiaas_async.errors import (
    AiaasError,
    ConflictError,
    InvalidError,
    MalformedError,
    NotFoundError,
)
from aiaas_async.names import check_name, clip
from aiaas_async.ring.hashring import Ring
from aiaas_async.service.itembodies import put_body
from aiaas_async.service.turns import Turns
from aiaas_async.wire.tensors import Array

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

WASTE_BYTES: Final = 64 << 20  # below this no data set is compacted by itself
# Of all columns, 8 MB at most: a million numbers take up to 60 ms to write as JSON. An item may
# have more.
PAGE_VALUES: Final = 1_000_000


class Datasets:
    """`readers` say why a data set's files must stay as they are, or None: they may be asked from
    any part of the platform that hands them to others. `users` name who needs the data set."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self.readers: list[Callable[[str], str | None]] = []
        self.users: list[Callable[[str], list[str]]] = []
        self._compacting: dict[str, asyncio.Task[int]] = {}
        self._turns, self._openings = Turns("data set change"), Turns("data set opening")

    async def declare(self, name: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Create the data set, or find the same one; the flag says whether it is new."""
        check_name(name, "data set name")
        return await self._turns.take(name, self._declare, name, body)

    def _declare(self, name: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        dataset, created = self._library.declare(name, body)
        return {**_facts(dataset), "created": created}, created

    async def list_all(self) -> list[dict[str, Any]]:
        """Facts of each; of one that cannot be opened its `error`, and what was declared."""
        return await _thread(_listed, await self._all())

    async def _all(self) -> list[tuple[DatasetSpec, Dataset | AiaasError]]:
        """All there are, or why one cannot be opened: which is no matter of the others."""
        found = list[tuple[DatasetSpec, Dataset | AiaasError]]()
        for spec in await _thread(self._library.specs):
            try:
                found.append((spec, await self._opened(spec.name)))
            except NotFoundError:  # deleted since
                continue
            except AiaasError as error:
                found.append((spec, error))
        return found

    async def _opened(self, name: str) -> Dataset:
        """To open one may take as long as to move its items: who waits for it holds no thread."""
        if (dataset := self._library.opened(name)) is not None:
            return dataset
        return await self._openings.take(name, self._library.get, name)

    async def describe(self, name: str) -> dict[str, Any]:
        """Columns, count, placement, and the digest of the content."""
        dataset = await self._opened(name)
        facts = await _thread(_facts, dataset)
        return {
            **facts,
            **await _thread(dataset.placement),
            "digest": await _thread(dataset.digest),
        }

    async def delete(self, name: str, *, only_empty: bool = False) -> None:
        """Raises `NotFoundError`, and `ConflictError` naming who needs the data set, or how many
        items it has where it was to be empty."""
        await self._compacted(name)
        async with self._turns.turn(name):  # until then somebody may come who needs it
            self._check_unused(name)
            await self._turns.beside(self._library.delete, name, only_empty=only_empty)

    def _check_unused(self, name: str) -> None:
        if using := [each for user in self.users for each in user(name)]:
            raise ConflictError(
                f"data set {name} is in use by {', '.join(using)}; cancel that first, or wait for "
                "its end",
                {"used_by": using},
            )

    async def put(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Store the items of a body `{keys?, columns}`; durable when it returns."""
        dataset = await self._opened(name)
        facts: dict[str, Any] = msgspec.to_builtins(
            await self._turns.take(name, put_body, dataset, body)
        )
        self._consider(dataset)
        return facts

    async def put_stream(
        self, name: str, bodies: AsyncIterator[bytearray], decode: Callable[[bytearray], Any]
    ) -> dict[str, Any]:
        """Store the items of several bodies, in order: one is stored while the next one comes.

        Each is durable as a whole, or not there. Raises what `put` does, with how many items were
        stored before it.
        """
        dataset = await self._opened(name)
        storing = InOrder(lambda body: self._turns.take(name, put_body, dataset, body), decode)
        try:
            async for raw in bodies:
                await storing.add(raw)
            if not storing.count:
                raise MalformedError("the body is empty; items come as {keys?, columns}")
            await storing.settle()
        except AiaasError as error:
            raise await storing.told(error) from error
        finally:
            storing.leave()
        self._consider(dataset)
        facts: dict[str, Any] = msgspec.to_builtins(storing.stored)
        return facts

    async def put_results(
        self, name: str, results: Callable[[], tuple[Keys, Mapping[str, Array], Known]]
    ) -> None:
        """Store what was computed from items of another data set; `results` brings it together in
        the thread that stores it."""
        await self._turns.take(name, lambda: self._library.get(name).put(*results()))

    async def get(self, name: str, key: str) -> dict[str, Any]:
        dataset = await self._opened(name)
        return {"key": key, "columns": await _thread(dataset.get, key)}

    async def page(self, name: str, after: str | None, limit: int) -> dict[str, Any]:
        """Items in the order of their arrival, after the cursor of an earlier page: up to `limit`,
        and no more than have `PAGE_VALUES`, but one."""
        dataset = await self._opened(name)
        return _rendered(await _thread(dataset.page, _cursor(after), min(limit, _most(dataset))))

    async def range(self, name: str, start: int, stop: int) -> dict[str, Any]:
        """Items `start` to `stop` - 1 in the order of their arrival; as few as fit in a page."""
        dataset = await self._opened(name)
        stop = min(stop, start + _most(dataset))
        return _rendered(await _thread(dataset.range, start, stop))

    async def delete_item(self, name: str, key: str) -> None:
        dataset = await self._opened(name)
        if not await self._turns.take(name, dataset.delete, [key]):
            raise NotFoundError(f"data set {name} has no item {clip(key)}")
        self._consider(dataset)

    async def compact(self, name: str) -> dict[str, int]:
        """Give back the bytes of items that were replaced or deleted; how many.

        Reads go on, changes of this data set wait. Raises `ConflictError` while a job needs its
        files as they are."""
        dataset = await self._opened(name)
        if (reader := self._reader_of(name)) is not None:
            raise ConflictError(f"data set {name} is read by {reader}; compact it afterwards")
        return {"freed_bytes": await asyncio.shield(self._compact(dataset))}

    def _compact(self, dataset: Dataset) -> asyncio.Task[int]:
        name = dataset.spec.name
        if name not in self._compacting:
            compaction = self._turns.take(name, dataset.compact)
            task = asyncio.create_task(compaction, name=f"compact {name}")
            self._compacting[name] = task
            task.add_done_callback(lambda done: self._on_compacted(dataset, done))
        return self._compacting[name]

    def _on_compacted(self, dataset: Dataset, done: asyncio.Task[int]) -> None:
        del self._compacting[dataset.spec.name]
        if not done.cancelled() and done.exception() is None:
            self._consider(dataset)  # changes may have come that this one did not see

    def _consider(self, dataset: Dataset) -> None:
        """Compact by itself what holds more that was replaced or deleted than not."""
        if dataset.reclaimable_bytes < max(WASTE_BYTES, dataset.value_bytes):
            return
        if self._reader_of(dataset.spec.name) is None:
            self._compact(dataset).add_done_callback(_told)

    def _reader_of(self, name: str) -> str | None:
        return next((why for reader in self.readers if (why := reader(name))), None)

    async def stop(self) -> None:
        """Wait for changes under way; compactions go one shard after the other, they cannot be
        left half."""
        if self._compacting:
            await asyncio.wait(self._compacting.values())
        await self._openings.stop()
        await self._turns.stop()

    async def source(self, name: str) -> Source:
        """The items as they are now, for a job to read; after a compaction under way, so that
        who keeps only the files' names does not name those that go."""
        dataset = await self._opened(name)
        await self._compacted(name)
        return await _thread(dataset.source)

    async def identity(self, name: str) -> str:
        """What another data set never has, were it of the same name. Raises `NotFoundError`."""
        return (await self._opened(name)).spec.id

    async def _compacted(self, name: str) -> None:
        """Wait for a compaction under way, and for one that it begins in turn."""
        while (compacting := self._compacting.get(name)) is not None:
            await asyncio.wait([compacting])

    async def follow(self, ring: Ring) -> int:
        """Move items to where `ring` wants them; how many copies moved."""
        return await self._turns.beside(self._library.follow, ring)

    async def held(self) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
        """Rows and bytes that each node holds, of all data sets together; and by name why one of
        them cannot be opened, and counts for nothing."""
        return await _thread(_sums, await self._all())


class InOrder:
    """Stores raw bodies one after the other; `count` of them were taken, `stored` is durable."""

    def __init__(
        self, put: Callable[[Any], Awaitable[PutReport]], decode: Callable[[bytearray], Any]
    ) -> None:
        self._put, self._decode = put, decode
        self._storing: asyncio.Task[PutReport] | None = None
        self.stored = PutReport(0, 0, 0, {})
        self.count = 0

    async def add(self, raw: bytearray) -> None:
        """Begin to store a body once the one before is stored. Raises what that one met."""
        await self.settle()
        self.count += 1
        self._storing = asyncio.create_task(self._store(raw))

    async def _store(self, raw: bytearray) -> PutReport:
        return await self._put(await _thread(self._decode, raw))

    async def settle(self) -> None:
        """Wait until what was begun is stored. Cancelling the waiter does not stop it."""
        if (storing := self._storing) is not None:
            await asyncio.wait([storing])
            self._storing = None
            self.stored = self.stored.plus(storing.result())

    def leave(self) -> None:
        """What was begun and nobody waited for comes to its end all the same; a failure is logged
        then."""
        if self._storing is not None:
            self._storing.add_done_callback(_left)

    async def told(self, error: AiaasError) -> AiaasError:
        """`error` that ended the stream, with how far it came."""
        with suppress(AiaasError):
            await self.settle()
        if self.count > 1:
            error.details["stored"] = msgspec.to_builtins(self.stored)
            error.message += f" (body {self.count}; {self.stored.written} items before are stored)"
        return error


def _told(done: asyncio.Task[int]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        logger.error("a data set could not be compacted: %s", error)


def _left(done: asyncio.Task[PutReport]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        logger.warning("items that a client left to be stored were not: %s", error)


async def _thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.to_thread(work, *args, **kwargs)


def _facts(dataset: Dataset) -> dict[str, Any]:
    return {**_declared(dataset.spec), "copies": dataset.copies, "count": dataset.count}


def _damage(spec: DatasetSpec, error: AiaasError) -> dict[str, Any]:
    return {**_declared(spec), "copies": None, "count": None, "error": error.message}


def _listed(each: Iterable[tuple[DatasetSpec, Dataset | AiaasError]]) -> list[dict[str, Any]]:
    listed = []
    for spec, found in each:
        with suppress(NotFoundError):  # deleted since
            listed.append(_facts(found) if isinstance(found, Dataset) else _damage(spec, found))
    return listed


def _sums(
    each: Iterable[tuple[DatasetSpec, Dataset | AiaasError]],
) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    total: dict[str, dict[str, int]] = {}
    damaged: dict[str, str] = {}
    for spec, found in each:
        if not isinstance(found, Dataset):
            damaged[spec.name] = found.message
            continue
        for node, facts in found.placement()["nodes"].items():
            known = total.get(node, {"rows": 0, "bytes": 0})
            total[node] = {name: known[name] + facts[name] for name in known}
    return total, damaged


def _declared(spec: DatasetSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "columns": msgspec.to_builtins(spec.columns),
        "replication": spec.replication,
    }


def _most(dataset: Dataset) -> int:
    """How many items a page of it may have."""
    return max(1, PAGE_VALUES // dataset.spec.item_values)


def _rendered(page: Page) -> dict[str, Any]:
    following = None if page.next is None else str(page.next)
    return {"keys": page.keys, "columns": page.columns, "next": following}


def _cursor(after: str | None) -> int | None:
    if after is None:
        return None
    if not after.isascii() or not after.isdigit() or len(after) > 19:
        raise InvalidError(f"?after= must be the 'next' of an earlier page, got {clip(after)}")
    return int(after)
