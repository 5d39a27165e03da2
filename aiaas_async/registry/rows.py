"""What a record is on disk: JSON bytes, which hold exactly what memory holds.

Metadata may come with free-form parts (`graph`, `lineage`); what JSON would change in passing
(NaN, bytes, huge numbers) is refused before it is accepted rather than found after a restart.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from aiaas_async.errors import InvalidError, TooLargeError
from aiaas_async.messages import FileEntry, Metadata
from aiaas_async.names import clip
from aiaas_async.registry.records import AliasRecord, VersionRecord

MAX_METADATA_BYTES: Final = 1 << 20
_MAX_DEPTH: Final = 32

# (table, key columns…) → the row's JSON; None: the row goes.
Key = tuple[str, ...]
Writes = dict[Key, bytes | None]


class Counter(msgspec.Struct, frozen=True):
    """The row of a model: the highest revision that any of its aliases ever had."""

    name: str
    revision: int


Record = VersionRecord | AliasRecord | Counter

_encode: Final = msgspec.json.Encoder(order="deterministic").encode


def encode(record: Record) -> bytes:
    return _encode(record)


def exact(metadata: Metadata) -> Metadata:
    """`metadata` with its free-form parts in plain JSON values.

    Raises `InvalidError` where JSON cannot hold a value, `TooLargeError` beyond 1 MiB.
    """
    free = {part: plain(getattr(metadata, part), part) for part in ("graph", "lineage")}
    metadata = msgspec.structs.replace(metadata, **free)
    try:
        size = len(_encode(metadata))
    except UnicodeEncodeError as error:
        raise InvalidError("metadata: a text holds half of a surrogate pair") from error
    if size > MAX_METADATA_BYTES:
        raise TooLargeError(f"metadata: {size} bytes of JSON; at most {MAX_METADATA_BYTES}")
    return metadata


def plain(value: object, where: str, depth: int = 0) -> Any:
    """A copy of `value` made of JSON's own types. Raises `InvalidError` naming the place."""
    if depth > _MAX_DEPTH:
        raise InvalidError(f"{where[:80]}: nested deeper than {_MAX_DEPTH} levels")
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, list | tuple):
        return [plain(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {k: plain(v, f"{where}.{k}", depth + 1) for k, v in value.items()}
    raise InvalidError(f"{where[:80]}: JSON cannot hold {clip(value)}")


def digest(metadata: Metadata, files: Iterable[FileEntry]) -> str:
    """SHA-256 (hex) of what a commit fixes: each file's path and bytes, and the metadata."""
    content = sorted((entry.path, entry.sha256) for entry in files)
    return hashlib.sha256(_encode((content, metadata))).hexdigest()
