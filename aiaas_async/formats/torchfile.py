"""Weights out of a PyTorch checkpoint of the first format (before 1.6), without PyTorch.

Such a file is a pickle that describes the tensors, one that lists their storages, and then each
storage's bytes. Nothing is unpickled: the few operations that a dict of tensors is written with
are followed by name, and any other one is refused, so that no file can have code run.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from aiaas_async.errors import ArtifactError
from aiaas_async.formats.files import opened
from aiaas_async.names import clip

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_STORAGES: Final = {
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch LongStorage": "<i8",
}
_REBUILD: Final = "torch._utils _rebuild_tensor_v2"
_KNOWN: Final = {*_STORAGES, _REBUILD, "collections OrderedDict"}
_MARK: Final = object()
_IGNORED: Final = {"PROTO", "FRAME", "STOP"}
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS: Final = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"}


def read_checkpoint(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors by name. Raises `ArtifactError` for what is no dict of plain tensors."""
    with opened(path, "a PyTorch checkpoint") as (file, size):
        try:
            pickles = _Within(file, size)
            if _value(pickles) != _MAGIC:
                raise ArtifactError("the file is no PyTorch checkpoint of the first format")
            _value(pickles), _value(pickles)  # the version, and what the writing machine was like
            described, keys = _value(pickles), _value(pickles)
            types = {key: dtype for (dtype, key), *_ in described.values()}
            storages = {key: _numbers(file, types[key], size) for key in keys}
            return {name: _tensor(tensor, storages) for name, tensor in described.items()}
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise ArtifactError(f"the PyTorch checkpoint cannot be read: {clip(error)}") from error


class _Within:
    """A file of which no more is read, and no memory asked for, than there is: a pickle counts
    its texts itself, up to 2**64."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.readline, self.tell = file.readline, file.tell

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, self._size - self._file.tell()))


def _value(file: _Within) -> Any:
    """What one pickle describes: numbers, texts, tuples, lists, dicts and `_Call`s."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    with warnings.catch_warnings(action="ignore"):  # of escapes in texts that are refused anyway
        for operation, argument, _ in pickletools.genops(cast("IO[bytes]", file)):
            _follow(operation.name, argument, stack, memo)
    return stack.pop()


def _follow(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if name in _IGNORED:
        return
    if name in _NUMBERS:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name == "MARK":
        stack.append(_MARK)
    elif name in ("BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
        stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
    elif name == "GLOBAL":
        if argument not in _KNOWN:
            raise ArtifactError(f"the checkpoint holds more than plain tensors: {clip(argument)}")
        stack.append(argument)
    else:
        _combine(name, stack)


def _combine(name: str, stack: list[Any]) -> None:
    if name == "BINPERSID":  # a storage: ("storage", its type, its key, …)
        _, kind, key, *_ = stack.pop()
        stack.append((_STORAGES[kind], key))
    elif name == "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append({} if function == "collections OrderedDict" else arguments[:4])
    elif name == "BUILD":  # attributes of the dict, which has none that matter
        stack.pop()
    elif name in ("TUPLE", "SETITEMS", "APPENDS"):
        items = _since_mark(stack)
        if name == "TUPLE":
            stack.append(tuple(items))
        elif name == "SETITEMS":
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        else:
            stack[-1].extend(items)
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(name[-1])
        stack[-count:] = [tuple(stack[-count:])]
    elif name == "APPEND":
        item = stack.pop()
        stack[-1].append(item)
    elif name == "SETITEM":
        value, key = stack.pop(), stack.pop()
        stack[-1][key] = value
    else:
        raise ArtifactError(f"the checkpoint holds more than plain tensors: {clip(name)}")


def _since_mark(stack: list[Any]) -> list[Any]:
    at = len(stack) - 1
    while stack[at] is not _MARK:
        at -= 1
        if at < 0:
            raise ValueError("no mark")
    items = stack[at + 1 :]
    del stack[at:]
    return items


def _numbers(file: BinaryIO, dtype: str, size: int) -> NDArray[Any]:
    (count,) = struct.unpack("<q", file.read(8))
    nbytes, left = count * np.dtype(dtype).itemsize, size - file.tell()
    if not 0 <= nbytes <= left:
        raise ArtifactError(f"the checkpoint has {left} bytes left, but a storage of {nbytes}")
    return np.frombuffer(file.read(nbytes), dtype)


def _tensor(described: tuple[Any, ...], storages: dict[str, NDArray[Any]]) -> NDArray[Any]:
    (_, key), offset, shape, strides = described
    numbers = storages[key][offset:]
    reach = [(n - 1) * step for n, step in zip(shape, strides, strict=True)]
    if min((offset, *shape, *strides)) < 0 or 1 + sum(reach) > len(numbers):
        raise ArtifactError(f"the checkpoint has a tensor {list(shape)} beyond its storage")
    steps = [step * numbers.itemsize for step in strides]
    return as_strided(numbers, shape, steps, writeable=False).copy()
