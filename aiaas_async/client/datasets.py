"""Data sets: declare, fill with arrays, read back, delete."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from aiaas_async.client.address import path
from aiaas_async.client.body import Encoded, Progress
from aiaas_async.client.itembody import Items
from aiaas_async.client.request import Request
from aiaas_async.client.surface import Surface, field_of
from aiaas_async.client.values import as_array, unpack
from aiaas_async.data.schema import MAX_KEY_BYTES, encode_key
from aiaas_async.errors import InputError
from aiaas_async.names import clip
from aiaas_async.wire.tensors import Array

# Big enough to hide the waits for the disk, small enough that many clients fit into the server's
# memory, which holds two values of each.
VALUE_BYTES: Final = 4 << 20
_SURELY_SHORT: Final = MAX_KEY_BYTES // 4  # characters; UTF-8 has up to four bytes for one
VALUES_PER_BODY: Final = 64  # what is sent again when a connection breaks


class DatasetMethods(Surface):
    async def put_dataset(
        self, name: str, columns: Mapping[str, Any], replication: int = 1
    ) -> dict[str, Any]:
        """Declare a data set: `columns` are {name: {dtype, shape}}, the shape of one item.

        The answer says whether it is new (`created`), and how many `copies` an item has: no more
        than there are nodes, until more join.
        """
        body = Encoded({"columns": dict(columns), "replication": replication})
        reply = await self._transport.send(Request("PUT", path("datasets", name), body))
        facts: dict[str, Any] = reply.value()
        return facts

    async def put_items(
        self,
        name: str,
        columns: Mapping[str, Any],
        keys: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Store items: arrays [n, …] of one length, and n keys, or None for keys made of content.

        Goes as a stream of values of about 4 MiB: the server stores one while the next one comes.
        Every 256 MiB it answers, and what it has answered is durable; `progress(sent, total)` is
        in items. Returns the sums of the server's reports.
        """
        arrays = check_items(columns, keys)
        count = len(next(iter(arrays.values())))
        step = _rows_per_value(arrays, keys, count)
        total: Counter[str] = Counter(written=0, replaced=0, repeated=0)
        per_node: Counter[str] = Counter()
        for at in range(0, count, step * VALUES_PER_BODY):
            stop = min(at + step * VALUES_PER_BODY, count)
            body = Items(arrays, keys, at, stop, step, _told(progress, count))
            request = Request("POST", path("datasets", name) + "/items", body)
            report = (await self._transport.send(request)).value()
            per_node.update(report.get("per_node", {}))
            total.update({field: field_of(report, field) for field in list(total)})
        return {**total, "per_node": dict(per_node)}

    async def get_item(self, name: str, key: str) -> dict[str, Any]:
        """One item, its values as arrays."""
        item: dict[str, Any] = unpack(await self._get(path("datasets", name) + "/items", key=key))
        return item

    async def items(
        self, name: str, after: str | None = None, limit: int | None = None
    ) -> dict[str, Any]:
        """A page of items in the order of arrival: `keys`, `columns`, and `next` to go on from;
        `item_pages` goes on by itself. Large items are fewer than `limit`: a page has a million
        values."""
        where = path("datasets", name) + "/items"
        return _paged(unpack(await self._get(where, after=after, limit=limit)))

    async def item_pages(
        self, name: str, limit: int | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """All items in the order of arrival, page after page of `limit` as `items` gives them."""
        page = await self.items(name, limit=limit)
        yield page
        while page["next"] is not None:
            page = await self.items(name, after=str(page["next"]), limit=limit)
            yield page

    async def items_range(self, name: str, start: int, stop: int) -> dict[str, Any]:
        """Items `start` to `stop` - 1 in the order of arrival, at most 10,000 of a million values:
        `keys`, `columns`, and `next` to go on from with `items`."""
        where = path("datasets", name) + "/items"
        return _paged(unpack(await self._get(where, start=start, stop=stop)))

    async def delete_item(self, name: str, key: str) -> None:
        await self._delete(path("datasets", name) + "/items", key=key)

    async def datasets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = field_of(await self._get("/datasets"), "datasets")
        return found

    async def dataset(self, name: str) -> dict[str, Any]:
        """A data set's columns, size and placement."""
        facts: dict[str, Any] = await self._get(path("datasets", name))
        return facts

    async def compact_dataset(self, name: str) -> dict[str, int]:
        """Give back the bytes of items that were replaced or deleted; `freed_bytes` says how
        many. It happens by itself where they are the greater part."""
        facts: dict[str, int] = await self._post(path("datasets", name) + "/compact", {})
        return facts

    async def delete_dataset(self, name: str, *, only_empty: bool = False) -> None:
        """With `only_empty` a data set that has items raises `ConflictError` and stays."""
        only = {"state": "empty"} if only_empty else {}
        await self._delete(path("datasets", name), **only)


def _paged(page: dict[str, Any]) -> dict[str, Any]:
    if isinstance(page.get("keys"), np.ndarray):
        page["keys"] = page["keys"].tolist()
    return page


def check_items(columns: Mapping[str, Any], keys: Sequence[str] | None) -> dict[str, Array]:
    """The columns as arrays of one length, as long as `keys` where there are any. Raises
    `InputError`, and `InvalidError` for a key that is empty or too long."""
    if not columns:
        raise InputError("give at least one column, as name → array")
    arrays = {name: as_array(value, f"column {clip(name)}") for name, value in columns.items()}
    texts = [name for name, array in arrays.items() if array.dtype.kind == "U"]
    if texts:
        raise InputError(
            f"column {clip(texts[0])} holds texts, a data set numbers: use them as keys, or encode "
            "them (token ids as int32, text as padded uint8)"
        )
    lengths = {name: len(array) if array.ndim else None for name, array in arrays.items()}
    if keys is not None:
        lengths["keys"] = len(keys)
        _check_keys(keys)
    if None in lengths.values() or len(set(lengths.values())) != 1:
        raise InputError(f"columns and keys must lead with one number of items, got {lengths}")
    return arrays


def _check_keys(keys: Sequence[str]) -> None:
    try:
        "".join(keys).encode()
    except TypeError:
        raise InputError(f"keys must all be texts, got {clip(list(keys[:20]))}") from None
    except UnicodeEncodeError as error:
        wrong = error.object[max(0, error.start - 20) : error.end]
        raise InputError(f"keys hold a text that is not Unicode: {clip(wrong)}") from error
    if any(not 1 <= len(key) <= _SURELY_SHORT for key in keys):
        for key in keys:
            encode_key(key)


def _rows_per_value(arrays: Mapping[str, Array], keys: Sequence[str] | None, count: int) -> int:
    nbytes = sum(array.nbytes for array in arrays.values())
    # A key is at most 256 bytes; most are short.
    nbytes += 4 * count + sum(map(len, keys)) if keys is not None else 0
    return max(1, VALUE_BYTES * count // max(1, nbytes))


def _told(progress: Progress | None, total: int) -> Callable[[int], None]:
    if progress is None:
        return lambda _: None
    return lambda sent: progress(sent, total)
