"""The reply to an infer request of the Open Inference Protocol: JSON, then the outputs' bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from aiaas_async.wire.v2tensors import Array, classified, datatype_of, pack, to_json

_MANY: Final = 1 << 14  # elements, which take 0.4 ms to write


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


def writes_long(arrays: Mapping[str, Array], outputs: Sequence[Asked]) -> bool:
    """Whether writing these outputs takes milliseconds."""
    slow = 0
    for asked in outputs:
        array = arrays[asked.name]
        if not asked.binary or asked.classes or array.dtype.kind == "U":
            slow += array.size
    return slow > _MANY


def write_reply(reply: InferReply, outputs: Sequence[Asked]) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON where tensors follow it.

    Raises `InputError` for a form that an output cannot take."""
    head: dict[str, Any] = {"id": reply.id} if reply.id else {}
    head |= {"model_name": reply.model, "model_version": reply.version}
    if reply.facts:
        head["parameters"] = reply.facts
    parts: list[bytes | memoryview] = []
    head["outputs"] = [_output(asked, reply.arrays[asked.name], parts) for asked in outputs]
    raw = msgspec.json.encode(head)
    body = b"".join([raw, *parts])
    return body, len(raw) if len(body) > len(raw) else None


def _output(asked: Asked, array: Array, parts: list[bytes | memoryview]) -> dict[str, Any]:
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
        head["data"] = to_json(array)
    return head
