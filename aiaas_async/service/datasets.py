"""Data sets for the event loop: the library's blocking functions, in threads.

Items come and go as columns: a key names a row of each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import msgspec
import numpy as np

from aiaas_async.data.dataset import Dataset
from aiaas_async.data.library import Library
from aiaas_async.data.source import Source
from aiaas_async.errors import InputError, InvalidError, NotFoundError
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.names import check_name, clip
from aiaas_async.ring.hashring import Ring
from aiaas_async.wire.arrays import read_array
from aiaas_async.wire.tensors import Array

P = ParamSpec("P")
T = TypeVar("T")


class Datasets:
    def __init__(self, library: Library) -> None:
        self._library = library

    async def declare(self, name: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Create the data set, or find the same one; the flag says whether it is new."""
        check_name(name, "data set name")
        dataset, created = await _thread(self._library.declare, name, body)
        return await _thread(_facts, dataset), created

    async def list_all(self) -> list[dict[str, Any]]:
        return await _thread(self._listed)

    def _listed(self) -> list[dict[str, Any]]:
        return [_facts(self._library.get(spec.name)) for spec in self._library.specs()]

    async def describe(self, name: str) -> dict[str, Any]:
        """Columns, count, placement, and the digest of the content."""
        dataset = await _thread(self._library.get, name)
        facts = await _thread(_facts, dataset)
        return {
            **facts,
            **await _thread(dataset.placement),
            "digest": await _thread(dataset.digest),
        }

    async def delete(self, name: str) -> None:
        await _thread(self._library.delete, name)

    async def put(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Store the items of a body `{keys?, columns}`; durable when it returns."""
        dataset = await _thread(self._library.get, name)
        unknown = body.keys() - {"keys", "columns"}
        if unknown:
            raise InvalidError(
                f"items come as {{keys?, columns}}; there is no field {clip(min(unknown))}"
            )
        columns = body.get("columns")
        if not isinstance(columns, Mapping) or not columns:
            raise InvalidError(f"'columns' must be an object of arrays, got {clip(columns)}")
        # Only values that are not arrays yet cost time to read; both happen off the loop.
        arrays = await _thread(_read_columns, dataset, columns)
        keys = _read_keys(body.get("keys"))
        report = await _thread(dataset.put, keys, arrays)
        facts: dict[str, Any] = msgspec.to_builtins(report)
        return facts

    async def put_results(
        self, name: str, keys: Sequence[str], columns: Mapping[str, Array], hashes: Array
    ) -> None:
        """Store what was computed from items of another data set, whose `hashes` these are."""
        dataset = await _thread(self._library.get, name)
        await _thread(dataset.put, keys, columns, hashes)

    async def get(self, name: str, key: str) -> dict[str, Any]:
        dataset = await _thread(self._library.get, name)
        return {"key": key, "columns": await _thread(dataset.get, key)}

    async def page(self, name: str, after: str | None, limit: int) -> dict[str, Any]:
        """Items in the order of their arrival, after the cursor of an earlier page."""
        dataset = await _thread(self._library.get, name)
        page = await _thread(dataset.page, _cursor(after), limit)
        following = None if page.next is None else str(page.next)
        return {"keys": page.keys, "columns": page.columns, "next": following}

    async def delete_item(self, name: str, key: str) -> None:
        dataset = await _thread(self._library.get, name)
        if not await _thread(dataset.delete, [key]):
            raise NotFoundError(f"data set {name} has no item {clip(key)}")

    async def source(self, name: str) -> Source:
        """The items as they are now, for a job to read."""
        dataset = await _thread(self._library.get, name)
        return await _thread(dataset.source)

    async def follow(self, ring: Ring) -> int:
        """Move items to where `ring` wants them; how many copies moved."""
        return await _thread(self._library.follow, ring)

    async def held(self) -> dict[str, dict[str, int]]:
        """Rows and bytes that each node holds, of all data sets together."""
        return await _thread(self._held)

    def _held(self) -> dict[str, dict[str, int]]:
        total: dict[str, dict[str, int]] = {}
        for spec in self._library.specs():
            for node, facts in self._library.get(spec.name).placement()["nodes"].items():
                known = total.get(node, {"rows": 0, "bytes": 0})
                total[node] = {name: known[name] + facts[name] for name in known}
        return total


async def _thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.to_thread(work, *args, **kwargs)


def _facts(dataset: Dataset) -> dict[str, Any]:
    spec = dataset.spec
    return {
        "name": spec.name,
        "columns": msgspec.to_builtins(spec.columns),
        "replication": spec.replication,
        "count": dataset.count,
    }


def _read_columns(dataset: Dataset, columns: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays of a body's columns, lists in the column's own dtype."""
    arrays = {}
    for name, raw in columns.items():
        declared = dataset.spec.columns.get(name)
        array = read_array(raw, f"column {clip(name)}", declared.dtype if declared else None)
        given_as_lists = isinstance(raw, list)
        if declared is not None and given_as_lists:
            array = _fitted(array, NUMPY[declared.dtype], name)
        arrays[name] = array
    return arrays


def _fitted(array: Array, dtype: np.dtype[Any], name: str) -> Array:
    """Numbers that came without a type, in the column's, if that keeps their values."""
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "biuf":
        raise InputError(f"column {clip(name)} takes {dtype.name}, got texts")
    with np.errstate(invalid="ignore"):
        fitted = array.astype(dtype)
    if dtype.kind != "f" and not np.array_equal(fitted, array):
        raise InputError(f"column {clip(name)} takes {dtype.name}; some values do not fit it")
    return fitted


def _read_keys(raw: Any) -> list[str] | None:
    """Keys as a list of texts, or as a tensor of strings."""
    if raw is None:
        return None
    if isinstance(raw, list):
        return raw
    array = read_array(raw, "keys")
    if array.dtype.kind != "U" or array.ndim != 1:
        raise InvalidError("'keys' must be a list of texts, one for each item")
    keys: list[str] = array.tolist()
    return keys


def _cursor(after: str | None) -> int | None:
    if after is None:
        return None
    if not after.isascii() or not after.isdigit() or len(after) > 19:
        raise InvalidError(f"?after= must be the 'next' of an earlier page, got {clip(after)}")
    return int(after)
