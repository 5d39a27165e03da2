"""Items on their way into a data set, as pieces of a MessagePack value `{columns, keys?}`.

Arrays are pieces of their own, views that nobody copies before the socket does; keys are packed:
`{lengths, text}`, where a list of texts would cost each end an object a key.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from aiaas_async.wire.codecs import encode_msgpack
from aiaas_async.wire.tensors import Array, dtype_name

Piece = bytes | memoryview


def pack_items(columns: Mapping[str, Array], keys: Sequence[str] | None) -> Iterator[Piece]:
    """The pieces of one value; `columns` are arrays of numbers [n, …], `keys` n texts
    that UTF-8 can hold."""
    yield bytes([0x81 + (keys is not None)]) + encode_msgpack("columns") + _map(len(columns))
    for name, array in columns.items():
        yield encode_msgpack(name)
        yield from _tensor(array)
    if keys is not None:
        yield encode_msgpack("keys") + encode_msgpack(_packed(keys))


def _map(size: int) -> bytes:
    return struct.pack(">BH", 0xDE, size)


def _tensor(array: Array) -> Iterator[Piece]:
    """`{dtype, shape, data}` without a copy of the data, where it lies as the wire wants it."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    facts = ("dtype", dtype_name(plain.dtype), "shape", plain.shape, "data")
    yield _map(3) + b"".join(map(encode_msgpack, facts)) + struct.pack(">BI", 0xC6, plain.nbytes)
    yield plain.reshape(-1).view(np.uint8).data


def _packed(keys: Sequence[str]) -> dict[str, object]:
    raw = [key.encode() for key in keys]
    lengths = np.fromiter(map(len, raw), np.uint32, len(raw))
    return {"lengths": lengths, "text": b"".join(raw)}
