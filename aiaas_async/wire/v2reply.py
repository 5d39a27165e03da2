"""The reply to an infer request of the Open Inference Protocol: JSON, then the outputs' bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec
import numpy as np

from aiaas_async.wire.longjson import MANY
from aiaas_async.wire.v2tensors import Array, classified, datatype_of, pack, to_json

NO_LISTS: Final[Mapping[str, msgspec.Raw]] = MappingProxyType({})
_NO_ARRAYS: Final[Mapping[str, Array]] = MappingProxyType({})


class Asked(msgspec.Struct, frozen=True):
    """An output to send: as bytes or as JSON; of `classes` > 0 only the highest so many."""

    name: str
    binary: bool = False
    classes: int = 0


class InferReply(msgspec.Struct, frozen=True):
    """`arrays` lead with the batch dimension; `facts` go out as the reply's parameters."""

    model: str
    version: str
    id: str
    arrays: Mapping[str, Array]
    facts: Mapping[str, Any]


def is_short(arrays: Mapping[str, Array]) -> bool:
    """Whether there is so little that writing it takes no milliseconds in any form."""
    count = 0
    for array in arrays.values():
        count += array.size
    return count <= MANY


def long_lists(arrays: Mapping[str, Array], outputs: Sequence[Asked]) -> Mapping[str, Array]:
    """The outputs that become lists in JSON, flat, if writing them takes milliseconds."""
    listed, count = [], 0
    for asked in outputs:
        if not asked.binary and not asked.classes:
            listed.append(asked.name)
            count += arrays[asked.name].size
    if count <= MANY:
        return _NO_ARRAYS
    # Halves have no form in JSON, which is said when they are written.
    return {name: arrays[name].ravel() for name in listed if arrays[name].dtype != np.float16}


def writes_long(arrays: Mapping[str, Array], outputs: Sequence[Asked]) -> bool:
    """Whether writing the other outputs takes milliseconds."""
    slow = 0
    for asked in outputs:
        array = arrays[asked.name]
        if asked.classes or (asked.binary and array.dtype.kind == "U"):
            slow += array.size
    return slow > MANY


def write_reply(
    reply: InferReply, outputs: Sequence[Asked], lists: Mapping[str, msgspec.Raw] = NO_LISTS
) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON where tensors follow it. `lists` are outputs whose JSON
    is written already.

    Raises `InputError` for a form that an output cannot take."""
    head: dict[str, Any] = {"id": reply.id} if reply.id else {}
    head |= {"model_name": reply.model, "model_version": reply.version}
    if reply.facts:
        head["parameters"] = reply.facts
    parts: list[bytes | memoryview] = []
    head["outputs"] = [
        _output(asked, reply.arrays[asked.name], lists.get(asked.name), parts) for asked in outputs
    ]
    raw = msgspec.json.encode(head)
    body = b"".join([raw, *parts])
    return body, len(raw) if len(body) > len(raw) else None


def _output(
    asked: Asked, array: Array, written: msgspec.Raw | None, parts: list[bytes | memoryview]
) -> dict[str, Any]:
    """The JSON of an output; its bytes, if it is sent as such, are added to `parts`."""
    if asked.classes:
        array = classified(array, asked.classes, asked.name)
    head: dict[str, Any] = {
        "name": asked.name,
        "datatype": datatype_of(array),
        "shape": array.shape,
    }
    if asked.binary:
        part = pack(array)
        parts.append(part)
        head["parameters"] = {"binary_data_size": len(part)}
    else:
        head["data"] = to_json(array, asked.name) if written is None else written
    return head
