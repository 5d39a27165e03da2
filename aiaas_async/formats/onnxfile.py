"""What an ONNX file says before any runtime reads it: which other files it wants, what it takes and
gives, for which of these it declares no shape, and whether it draws random numbers.

The file is one protobuf message. This walks the wire format by a table of the messages that can
hold a tensor, so a place to hide a file name is a place this looks at; whatever else the bytes
say is left to onnxruntime.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiaas_async.errors import ArtifactError, MemoryBudgetError
from aiaas_async.formats.files import opened
from aiaas_async.names import clip

# Message → field number → the message in it (onnx.proto). "weight" is a tensor where external
# data is allowed; "input" and "output" declare one; "pair" is an entry of external data.
INSIDE: Final[dict[str, dict[int, str]]] = {
    "model": {7: "main graph", 20: "training", 25: "function"},
    "main graph": {1: "node", 5: "weight", 11: "input", 12: "output", 15: "sparse"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "weight": {8: "weight name", 13: "pair"},
    "tensor": {13: "hidden pair"},
}
_KEY, _VALUE = 1, 2
_VALUE_NAME, _VALUE_TYPE, _TENSOR_TYPE, _SHAPE = 1, 2, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_NODE_INPUT, _OPERATOR = 1, 4
# The operators of ONNX that draw; Dropout does when it is told by its third input to train.
_RANDOM: Final = frozenset(
    {
        b"RandomNormal",
        b"RandomNormalLike",
        b"RandomUniform",
        b"RandomUniformLike",
        b"Multinomial",
        b"Bernoulli",
    }
)
_MAX_TAG: Final = 2**32
# onnxruntime's own marks for "the offset is an address in memory": a file must never say so.
_MEMORY_MARK: Final = "_MEM_ADDR_"


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """`locations` name the files that hold weights; `shapeless` are inputs and outputs. An input
    that a weight stands for by default is not among `inputs`. `random`: some node draws."""

    size: int
    locations: frozenset[str]
    shapeless: frozenset[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    random: bool = False

    def check_used(self, others: Collection[str]) -> None:
        """Raise `ArtifactError` unless the model names all the `others`, which come with it."""
        if unused := sorted(set(others) - self.locations):
            raise ArtifactError(
                f"the model does not refer to {clip(unused)}; an artifact for runtime onnx is one "
                "model and the files that hold its weights"
            )


def read_onnx(path: Path, label: str) -> OnnxFile:
    """Walk the file at `path`; `label` is what its user calls it. Raises `ArtifactError`."""
    what = f"the model {clip(label)}"
    with map_file(path, what) as data:
        return _walked(data, what)


def map_file(path: Path, what: str) -> mmap.mmap:
    """The bytes at `path`, none of them read yet. Raises `ArtifactError`, `MemoryBudgetError`."""
    with opened(path, what) as (file, size):
        if size == 0:
            raise ArtifactError(f"{what} is empty")
        try:
            return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise MemoryBudgetError(
                f"{what} has {size} bytes, more than its worker may map: {error.strerror}"
            ) from error


def _walked(data: mmap.mmap, what: str) -> OnnxFile:
    locations: set[str] = set()
    shapeless: set[str] = set()
    weights: set[str] = set()
    declared: dict[str, list[str]] = {"input": [], "output": []}
    random = False
    places = [("model", 0, len(data))]
    try:
        while places:
            message, start, end = places.pop()
            match message:
                case "pair" | "hidden pair":
                    locations |= _location(data, start, end, hidden=message != "pair")
                case "weight name":
                    weights.add(data[start:end].decode())
                case "input" | "output":
                    name, shaped = _value(data, start, end)
                    declared[message].append(name)
                    shapeless |= set() if shaped else {name}
                case _:
                    known = INSIDE[message]
                    fields = list(_fields(data, start, end))
                    places += [(known[n], first, last) for n, first, last in fields if n in known]
                    random = random or (message == "node" and _draws(data, fields))
    except (_WireError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{what} is not an ONNX file, or it is damaged: {error}") from error
    # Places are taken from the end, so what stands first in the file was found last.
    inputs = tuple(name for name in reversed(declared["input"]) if name not in weights)
    outputs = tuple(reversed(declared["output"]))
    found = (frozenset(locations), frozenset(shapeless), inputs, outputs)
    return OnnxFile(len(data), *found, random)


def _location(data: mmap.mmap, start: int, end: int, *, hidden: bool) -> set[str]:
    """The file that an entry of external data names, if it is the entry that does."""
    # The last occurrence of a field counts, as in every protobuf reader.
    pair = {number: data[first:last] for number, first, last in _fields(data, start, end)}
    if pair.get(_KEY) != b"location":
        return set()
    location = pair.get(_VALUE, b"").decode()
    if hidden or _MEMORY_MARK in location:
        raise ArtifactError(
            f"a tensor refers to {clip(location)}; only the weights of the outermost graph may "
            "lie in another file"
        )
    return {location}


def _draws(data: mmap.mmap, fields: Sequence[tuple[int, int, int]]) -> bool:
    """Whether a node of these fields draws random numbers."""
    operators = [data[first:last] for number, first, last in fields if number == _OPERATOR]
    inputs = sum(number == _NODE_INPUT for number, _, _ in fields)
    return any(each in _RANDOM or (each == b"Dropout" and inputs > 2) for each in operators)


def _value(data: mmap.mmap, start: int, end: int) -> tuple[str, bool]:
    """The name of a declared input or output, and whether it has a shape."""
    name, shaped = b"", False
    for number, first, last in _fields(data, start, end):
        if number == _VALUE_NAME:
            name = data[first:last]
        elif number == _VALUE_TYPE:
            types = [f for f in _fields(data, first, last) if f[0] == _TENSOR_TYPE]
            shaped |= any(f[0] == _SHAPE for _, a, b in types for f in _fields(data, a, b))
    return name.decode(), shaped


class _WireError(Exception):
    """The bytes are no protobuf message."""


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field that holds bytes; fields that hold numbers are passed."""
    at = start
    while at < end:
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        if not number or tag >= _MAX_TAG:
            raise _WireError(f"no field has tag {tag}")
        if kind == _BYTES:
            length, at = _varint(data, at, end)
            if length > end - at:
                raise _WireError(f"{length} bytes announced, {end - at} there")
            yield number, at, at + length
            at += length
        elif kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise _WireError(f"a field of kind {kind}")
    if at > end:
        raise _WireError("it ends within a field")


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _WireError("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _WireError("a number of more than ten bytes")
