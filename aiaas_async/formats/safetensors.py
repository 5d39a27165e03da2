"""safetensors files: headers checked before any allocation, tensors as views on a read-only map.

The format (huggingface.co/docs/safetensors): a u64 length, that many bytes of JSON
`{name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {text: text}}`, then the
data. Stricter than the format where that costs nobody anything: a header of at most 1 MiB,
at most 8 dimensions, printable names. The package of that name copies what it loads; a view
costs the pages it touches, and every process that maps a file shares them.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from aiaas_async.errors import ArtifactError
from aiaas_async.formats.files import opened, replacing
from aiaas_async.formats.strictjson import parse_object
from aiaas_async.messages import MAX_DIMENSIONS
from aiaas_async.names import clip

MAX_HEADER_BYTES: Final = 1 << 20
MAX_NAME_LENGTH: Final = 256
_ALIGNMENT: Final = 64
_MAX_DEPTH: Final = 4
_WHAT: Final = "a safetensors file"
_METADATA: Final = "__metadata__"

Array = NDArray[Any]
BFLOAT16: Final = "BF16"  # numpy has no such type: read as its bits, widened to float32

# The whole list; a file's text never reaches np.dtype.
_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    BFLOAT16: np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
_CODES: Final = {dtype: code for code, dtype in _DTYPES.items() if code != BFLOAT16}


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a header says of one tensor: the format's dtype code, bytes `begin` to `end` of the
    file's data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header. `start` is where the data begins in the file of `file_size` bytes."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    start: int
    file_size: int


@dataclass(frozen=True, slots=True)
class Mapped:
    """The tensors of a file: read-only views that keep the map open for as long as they live."""

    header: Header
    tensors: Mapping[str, Array]


def read_header(path: Path) -> Header:
    """The header of `path`, nothing else read. Raises `ArtifactError`."""
    with opened(path, _WHAT) as (file, size):
        return _read_header(file, size)


def map_tensors(path: Path) -> Mapped:
    """Views on the tensors of `path`; only bfloat16 is copied, widened to float32.

    The file must not be cut while it is mapped: the kernel answers such a read with SIGBUS.
    Raises `ArtifactError`.
    """
    with opened(path, _WHAT) as (file, size):
        header = _read_header(file, size)
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    views = {name: _view(mapped, header.start, each) for name, each in header.tensors.items()}
    return Mapped(header, views)


def write_tensors(
    path: Path,
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
    *,
    durable: bool = True,
) -> None:
    """Write a file that is whole, and `durable`, when this returns; equal tensors, equal bytes.
    Of views in another order than their memory's, one at a time is copied.

    Wide elements come first, then names in order: the data starts at a multiple of 64 bytes, so
    each tensor lies aligned for its type. Raises `ArtifactError` for what the format or a reader
    here cannot hold, `StorageError` for a full disk.
    """
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    codes = {name: _code(name, array) for name, array in arrays.items()}
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    entries, end = dict[str, Any](), 0
    if metadata:
        entries[_METADATA] = dict(sorted(metadata.items()))
    for name in order:
        begin, end = end, end + arrays[name].nbytes
        shape = list(arrays[name].shape)
        entries[name] = {"dtype": codes[name], "shape": shape, "data_offsets": [begin, end]}
    text = msgspec.json.encode(entries)
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    _check_length(len(text))
    _checked(text, 8 + len(text) + end)
    with replacing(path, durable=durable) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            little = np.ascontiguousarray(arrays[name], _DTYPES[codes[name]])
            file.write(little.reshape(-1).view(np.uint8).data)


def _code(name: str, array: Array) -> str:
    try:
        return _CODES[array.dtype.newbyteorder("<")]
    except KeyError:
        raise ArtifactError(
            f"tensor {clip(name)}: safetensors has no dtype {array.dtype}"
        ) from None


def _read_header(file: BinaryIO, size: int) -> Header:
    if size < 8:
        raise ArtifactError(f"{_WHAT} has 8 bytes or more, got {size}")
    length = int.from_bytes(file.read(8), "little")
    _check_length(length)
    if 8 + length > size:
        raise ArtifactError(
            f"{_WHAT} announces {length} bytes of header but has {size} in all: it is cut short, "
            "or of another format"
        )
    return _checked(file.read(length), size)


def _check_length(length: int) -> None:
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise ArtifactError(
            f"{_WHAT} has a header of 2 to {MAX_HEADER_BYTES} bytes, got {length}: is it of "
            "another format?"
        )


def _checked(text: bytes, file_size: int) -> Header:
    """The header in `text`, which must describe every byte of the file exactly once."""
    if text[:1] != b"{":
        raise ArtifactError(f"{_WHAT}: the header begins with {clip(text[:8])}, not with '{{'")
    parsed = parse_object(text, "the safetensors header", _MAX_DEPTH)
    metadata = _metadata(parsed.pop(_METADATA, {}))
    tensors = {name: _tensor(name, raw) for name, raw in parsed.items()}
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != end:
            raise ArtifactError(
                f"tensor {clip(name)} begins at {tensor.begin}; {end} expected: tensors must "
                "neither overlap nor leave gaps"
            )
        end = tensor.end
    start = 8 + len(text)
    if start + end != file_size:
        raise ArtifactError(
            f"the tensors end at byte {start + end} but the file has {file_size}: it is cut "
            "short or has something behind"
        )
    return Header(tensors, metadata, start, file_size)


def _metadata(raw: Any) -> dict[str, str]:
    try:
        return msgspec.convert(raw, dict[str, str], strict=True)
    except msgspec.ValidationError as error:
        raise ArtifactError(f"{_METADATA} must map text to text: {error}") from error


def _tensor(name: str, raw: Any) -> Tensor:
    label = f"tensor {clip(name)}"
    if not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise ArtifactError(f"{label}: a name has 1 to {MAX_NAME_LENGTH} printable characters")
    if not isinstance(raw, dict) or set(raw) != {"dtype", "shape", "data_offsets"}:
        raise ArtifactError(f"{label} needs dtype, shape and data_offsets, got {clip(raw)}")
    dtype, shape, offsets = raw["dtype"], raw["shape"], raw["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ArtifactError(f"{label}: dtype {clip(dtype)}; known: {', '.join(_DTYPES)}")
    if not _whole(shape, 2**31) or len(shape) > MAX_DIMENSIONS:
        raise ArtifactError(
            f"{label}: shape {clip(shape)}; at most {MAX_DIMENSIONS} dimensions of 0 to 2147483647"
        )
    if math.prod(size or 1 for size in shape) >= 2**59:  # numpy counts so for empty arrays too
        raise ArtifactError(f"{label}: shape {shape} is beyond any array")
    if not _whole(offsets, 2**63) or len(offsets) != 2:
        raise ArtifactError(f"{label}: data_offsets {clip(offsets)} must be [begin, end]")
    begin, end = offsets
    expected = math.prod(shape) * _DTYPES[dtype].itemsize
    if end - begin != expected:
        raise ArtifactError(
            f"{label}: {dtype} {shape} takes {expected} bytes, data_offsets give {end - begin}"
        )
    return Tensor(dtype, tuple(shape), begin, end)


def _whole(values: Any, below: int) -> bool:
    """Whether `values` is a list of integers (a bool is none) from 0 to `below` - 1."""
    return isinstance(values, list) and all(type(v) is int and 0 <= v < below for v in values)


def _view(mapped: mmap.mmap, start: int, tensor: Tensor) -> Array:
    dtype = _DTYPES[tensor.dtype]
    count = math.prod(tensor.shape)
    if count == 0:  # nothing to point at, and frombuffer refuses an empty buffer
        flat: Array = np.zeros(0, dtype)
    else:
        flat = np.frombuffer(mapped, dtype, count, start + tensor.begin)
    if tensor.dtype == BFLOAT16:
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(tensor.shape)
