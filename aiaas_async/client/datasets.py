"""Data sets: declare, fill with arrays, read back, delete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from aiaas_async.client.address import path
from aiaas_async.client.body import Encoded, Progress
from aiaas_async.client.request import Request
from aiaas_async.client.surface import Surface, field_of
from aiaas_async.client.values import as_array, pack, pack_texts, unpack
from aiaas_async.errors import InputError
from aiaas_async.names import clip
from aiaas_async.wire.tensors import MAX_STRINGS, Array

# Big enough to hide the round trip, small enough that many clients fit into the server's memory.
BODY_BYTES: Final = 4 << 20


class DatasetMethods(Surface):
    async def put_dataset(
        self, name: str, columns: Mapping[str, Any], replication: int = 1
    ) -> dict[str, Any]:
        """Declare a data set: `columns` are {name: {dtype, shape}}, the shape of one item."""
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

        Goes in bodies of about 4 MiB, each durable when it is answered; `progress(stored, total)`
        is in items. Returns the sums of the server's reports.
        """
        arrays = _columns(columns, keys)
        count = len(next(iter(arrays.values())))
        step = _rows_per_body(arrays, keys, count)
        where = path("datasets", name) + "/items"
        total: Counter[str] = Counter(written=0, replaced=0, repeated=0)
        per_node: Counter[str] = Counter()
        for at in range(0, count, step):
            body: dict[str, Any] = {
                "columns": {
                    n: pack(a[at : at + step], f"column {clip(n)}") for n, a in arrays.items()
                }
            }
            if keys is not None:
                body["keys"] = pack_texts(list(keys[at : at + step]), "keys")
            report = await self._post(where, body)
            per_node.update(report.get("per_node", {}))
            total.update({field: field_of(report, field) for field in list(total)})
            if progress is not None:
                progress(min(at + step, count), count)
        return {**total, "per_node": dict(per_node)}

    async def get_item(self, name: str, key: str) -> dict[str, Any]:
        """One item, its values as arrays."""
        item: dict[str, Any] = unpack(await self._get(path("datasets", name) + "/items", key=key))
        return item

    async def items(
        self, name: str, after: str | None = None, limit: int | None = None
    ) -> dict[str, Any]:
        """A page of items in the order of arrival: `keys`, `columns`, and `next` to go on from."""
        where = path("datasets", name) + "/items"
        page: dict[str, Any] = unpack(await self._get(where, after=after, limit=limit))
        if isinstance(page.get("keys"), np.ndarray):
            page["keys"] = page["keys"].tolist()
        return page

    async def delete_item(self, name: str, key: str) -> None:
        await self._delete(path("datasets", name) + "/items", key=key)

    async def datasets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = field_of(await self._get("/datasets"), "datasets")
        return found

    async def dataset(self, name: str) -> dict[str, Any]:
        """A data set's columns, size and placement."""
        facts: dict[str, Any] = await self._get(path("datasets", name))
        return facts

    async def delete_dataset(self, name: str) -> None:
        await self._delete(path("datasets", name))


def _columns(columns: Mapping[str, Any], keys: Sequence[str] | None) -> dict[str, Array]:
    """The columns as arrays of one length. Raises `InputError`."""
    if not columns:
        raise InputError("give at least one column, as name → array")
    arrays = {name: as_array(value, f"column {clip(name)}") for name, value in columns.items()}
    lengths = {name: len(array) if array.ndim else None for name, array in arrays.items()}
    if keys is not None:
        lengths["keys"] = len(keys)
        if not all(isinstance(key, str) for key in keys):
            raise InputError(f"keys must all be texts, got {clip(list(keys[:20]))}")
    if None in lengths.values() or len(set(lengths.values())) != 1:
        raise InputError(f"columns and keys must lead with one number of items, got {lengths}")
    return arrays


def _body(arrays: Mapping[str, Array], keys: Sequence[str] | None, part: slice) -> dict[str, Any]:
    columns = {name: pack(array[part], f"column {clip(name)}") for name, array in arrays.items()}
    if keys is None:
        return {"columns": columns}
    return {"columns": columns, "keys": pack_texts(list(keys[part]), "keys")}


def _rows_per_body(arrays: Mapping[str, Array], keys: Sequence[str] | None, count: int) -> int:
    nbytes = sum(array.nbytes for array in arrays.values())
    # A key is at most 256 bytes; most are short.
    nbytes += 4 * count + sum(map(len, keys)) if keys is not None else 0
    rows = max(1, BODY_BYTES * count // max(1, nbytes))
    return rows if keys is None else min(rows, MAX_STRINGS)
