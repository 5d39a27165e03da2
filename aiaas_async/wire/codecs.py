"""The two encodings of the platform's own surface, and how a request chooses.

Content-Type says what came; Accept what goes back, else the same. Numpy arrays go out as
`{dtype, shape, data}` in MessagePack and as nested lists in JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import msgpack
import msgspec
import numpy as np

from aiaas_async.errors import MalformedError, TooLargeError, UnsupportedMediaError
from aiaas_async.names import clip
from aiaas_async.wire.longbinary import Body, cut_out, put_back
from aiaas_async.wire.numerals import decode
from aiaas_async.wire.repeats import check_unique
from aiaas_async.wire.skim import check_structure
from aiaas_async.wire.tensors import pack_tensor

# Each costs at least 56 bytes; a batch of 1,797 8x8x1 images has 131,000.
MAX_CONTAINERS: Final = 500_000


@dataclass(frozen=True, slots=True)
class Codec:
    """`decode` raises `MalformedError` or `TooLargeError`; `encode` takes JSON-like values and
    numpy arrays."""

    name: str
    content_type: str
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]


def decode_json(body: bytes) -> Any:
    """A JSON value, whose objects have each key once. NaN and infinity are no JSON (RFC 8259)."""
    # A shorter body cannot hold so many; counting takes 0.6 ms a MiB.
    if len(body) > 2 * MAX_CONTAINERS and body.count(b"[") + body.count(b"{") > MAX_CONTAINERS:
        raise TooLargeError(
            f"the JSON body has over {MAX_CONTAINERS} arrays and objects; use MessagePack, "
            "with arrays as {dtype, shape, data}"
        )
    try:
        value = decode(body)
        check_unique(body, value)
    except RecursionError:
        raise MalformedError("the JSON body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if not body.strip():
            raise MalformedError("the body is empty; JSON is expected") from None
        raise MalformedError(f"the body is not JSON: {clip(str(error), 200)}") from error
    return value


def encode_json(value: Any) -> bytes:
    return msgspec.json.encode(value, enc_hook=_plain)


def decode_msgpack(body: Body) -> Any:
    """A MessagePack value whose maps have text keys, each once. Its long binaries are views of
    `body`."""
    binaries = check_structure(body)
    try:
        if not binaries:
            return msgpack.unpackb(body, object_pairs_hook=_unique, ext_hook=_no_extension)
        short, extension = cut_out(body, binaries), put_back(body, binaries)
        return msgpack.unpackb(short, object_pairs_hook=_unique, ext_hook=extension)
    except (ValueError, UnicodeDecodeError, msgpack.UnpackException) as error:
        raise MalformedError(f"the body is not MessagePack: {clip(str(error), 200)}") from error


def encode_msgpack(value: Any) -> bytes:
    """Raises `TypeError`, `ValueError`, `OverflowError` for what has no MessagePack form."""
    packed: bytes = msgpack.packb(value, default=_packable)
    return packed


def _packable(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return pack_tensor(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"no MessagePack form of {type(value).__name__}")


JSON: Final = Codec("json", "application/json", decode_json, encode_json)
# What we answer is of plain types, for which this packer writes the same bytes in a third of the
# time; it also takes sets, dates and more, which a client's user should be told of.
_ANSWERS: Final = msgspec.msgpack.Encoder(enc_hook=_packable)
MSGPACK: Final = Codec("msgpack", "application/msgpack", decode_msgpack, _ANSWERS.encode)
_BY_TYPE: Final = {
    "application/json": JSON,
    "text/json": JSON,
    "application/msgpack": MSGPACK,
    "application/x-msgpack": MSGPACK,
    "application/vnd.msgpack": MSGPACK,
}


def codec_for(content_type: str | None) -> Codec:
    """The codec of a body. Raises `UnsupportedMediaError`."""
    if (known := _BY_TYPE.get(content_type or "")) is not None:
        return known
    bare = (content_type or "").partition(";")[0].strip().lower()
    try:
        return _BY_TYPE[bare]
    except KeyError:
        raise UnsupportedMediaError(
            f"Content-Type {clip(content_type)} is not supported: use application/msgpack or "
            "application/json"
        ) from None


def reply_codec(accept: str | None, asked: Codec) -> Codec:
    """The codec of a reply: the best that Accept names, else `asked`, the request's own.

    Types we do not speak are passed over; a client that accepts nothing of ours gets `asked`.
    """
    if accept is None or accept == "*/*":
        return asked
    best, quality = asked, 0.0
    for part in accept.split(","):
        kind, _, rest = part.partition(";")
        weight = _quality(rest)
        found = _BY_TYPE.get(kind.strip().lower())
        if found is not None and weight > quality:
            best, quality = found, weight
        elif kind.strip() == "*/*" and weight > quality:
            best, quality = asked, weight
    return best


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _plain(value: Any) -> Any:
    """Numpy values as JSON-like ones."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"no JSON form of {type(value).__name__}")


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a map repeats a key")
    return found


def _no_extension(code: int, _: bytes) -> NoReturn:
    raise ValueError(f"extension type {code}")
