"""Repeated keys in JSON: which of the values is meant, nobody can know.

The decoder keeps the last and says nothing. Asking Python's own for every key costs ten times as
much. So the colons of the body are counted: there is one for each key, and those within texts; if
the decoded value accounts for fewer, a key was lost.
"""

from __future__ import annotations

import json
from typing import Any, Final

from aiaas_async.errors import MalformedError
from aiaas_async.names import clip

_NAMED_BYTES: Final = 8 << 10  # of a body in which the key is looked for: 0.3 ms


def check_unique(body: bytes, value: Any) -> None:
    """Raise `MalformedError` if an object of `body` repeats a key; `value` is its decoded form."""
    written = body.count(b":")
    if b"\\" in body:
        # Without the escaped backslashes every one that is left begins an escape.
        escapes = body.replace(b"\\\\", b"")
        written += escapes.count(b"\\u003a") + escapes.count(b"\\u003A")
    # Lists of numbers, the bulk of a body, hold no colons: look into lists only if need be.
    if written == _colons(value, lists=False) or written == _colons(value, lists=True):
        return
    if len(body) <= _NAMED_BYTES:
        json.loads(body, object_pairs_hook=_unique)
    raise MalformedError("the JSON body repeats a key: give each once")


def _colons(value: Any, *, lists: bool) -> int:
    """Colons that the keys and texts of `value` take when it is written."""
    found, places = 0, [value]
    while places:
        at = places.pop()
        if type(at) is dict:
            found += len(at)
            for key, held in at.items():
                found += key.count(":")
                places.append(held)
        elif type(at) is str:
            found += at.count(":")
        elif lists and type(at) is list:
            places.extend(at)
    return found


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise MalformedError(f"the JSON body repeats the key {clip(key)}: give it once")
        seen.add(key)
