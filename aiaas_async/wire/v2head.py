"""The JSON of an infer request, bounded and decoded; its long lists are cut out first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from aiaas_async.errors import MalformedError, TooLargeError
from aiaas_async.names import clip
from aiaas_async.wire.longlists import LongList, stand_in, take_lists
from aiaas_async.wire.numerals import finite
from aiaas_async.wire.v2parameters import Parameters

MAX_DEPTH: Final = 100
MAX_OBJECTS: Final = 1024  # 64 inputs and 64 outputs, each with parameters, are 257
MAX_LISTS: Final = 150_000  # 1,797 images of 8x8x1 are 131,000, nested
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_FIELD: Final = re.compile(r"\.(\w+)")
_MISSING: Final = re.compile(r"missing required field `(\w+)`")
_EXPECTED: Final = re.compile(r"Expected `(array|object|str|int)\b")
_KINDS: Final = {"array": "array", "object": "object", "str": "string", "int": "signed-integer"}
WORTH_CUTTING: Final = 1 << 12  # 16 KB take 29 us so, and 39 in one


class Input(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = {}
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Output(msgspec.Struct):
    name: str
    parameters: Parameters = {}


class Head(msgspec.Struct):
    inputs: list[Input]
    id: str = ""
    parameters: Parameters = {}
    outputs: list[Output] | None = None


_HEAD: Final = msgspec.json.Decoder(Head, float_hook=finite)


def cut_lists(head: bytes, *, read: bool = True) -> tuple[bytes, Mapping[bytes, LongList]]:
    """`head` with its long data cut out, and that by what stands in for it."""
    if len(head) < WORTH_CUTTING:
        return head, {}
    left, lists = take_lists(head, b"data", read=read)
    return left, {stand_in(number): each for number, each in enumerate(lists)}


def decode_head(head: bytes) -> Head:
    check_structure(head)
    try:
        return _HEAD.decode(head)
    except msgspec.ValidationError as error:
        raise MalformedError(_refusal(str(error))) from None
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = clip(str(error), 200)
        raise MalformedError(f"failed to parse the request JSON buffer: {reason}") from None


def _refusal(reason: str) -> str:
    """A complaint of msgspec in the reference server's words."""
    missing, expected = _MISSING.search(reason), _EXPECTED.match(reason)
    said = reason
    if missing is not None:
        said = f"attempt to access non-existing object member '{missing[1]}'"
    elif expected is not None:
        kind = _KINDS[expected[1]]
        said = f"attempt to access JSON non-{kind} as {kind}"
    return f"Unable to parse '{_field(reason)}': {said}"


def _field(reason: str) -> str:
    """The field that a complaint of msgspec is about."""
    missing = _MISSING.search(reason)
    path = _FIELD.findall(reason.rpartition(" - at `")[2]) if " - at `" in reason else []
    return missing[1] if missing else (path[-1] if path else "request")


def check_structure(body: bytes) -> None:
    """Raise `MalformedError` for JSON of more than 100 levels, `TooLargeError` for JSON of more
    objects and lists than any request needs."""
    if len(body.translate(None, _NO_BRACKETS)) <= 2 * MAX_DEPTH:
        return
    brackets = _brackets(body)
    marks = np.frombuffer(brackets[: 2 * MAX_LISTS], np.uint8)
    steps = np.where((marks == ord("[")) | (marks == ord("{")), np.int8(1), np.int8(-1))
    if steps.cumsum(dtype=np.int32).max(initial=0) > MAX_DEPTH:
        raise _too_deep()
    if brackets.count(b"{") > MAX_OBJECTS or len(brackets) > 2 * MAX_LISTS:
        raise TooLargeError(
            f"the request JSON has over {MAX_OBJECTS} objects or {MAX_LISTS} lists; send tensors "
            "flat or as binary data"
        )


def _brackets(body: bytes) -> bytes:
    """The brackets and braces that stand outside of texts."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    return b"".join(plain.split(b'"')[::2]).translate(None, _NO_BRACKETS)


def _too_deep() -> MalformedError:
    return MalformedError(f"JSON nesting depth exceeds maximum allowed limit ({MAX_DEPTH})")
