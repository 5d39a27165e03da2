"""JSON decoded at a cost that its bytes bound: a number may take 10 us to read, or 0.3.

msgspec reads the digits of most numbers at once, but those near the ends of a double's range
("1e308") a digit and a shift at a time: 64 KiB of them stall the loop for 100 ms, 1 MiB for 1.6 s.
Python's own `float` takes 0.3 us for any, so it reads the numbers of a body that has many such; one
of less than 24 KB cannot have many.
"""

from __future__ import annotations

import math
import re
from itertools import islice
from typing import Any, Final

import msgspec

_BEARABLE: Final = 4000  # at 10 us each
_LARGE_EXPONENT: Final = re.compile(rb"[eE][-+]?0*[1-9]\d\d")
_SHORTEST: Final = 6  # bytes of such a number and a comma


def decode(body: bytes | str) -> Any:
    """A JSON value. Raises what `msgspec.json.decode` does."""
    return _PATIENT.decode(body) if _is_dear(body) else _PLAIN.decode(body)


def _is_dear(body: bytes | str) -> bool:
    if len(body) < _BEARABLE * _SHORTEST:
        return False
    raw = body.encode(errors="replace") if isinstance(body, str) else body
    # Counting two letters takes a tenth of what the pattern does.
    if raw.count(b"e") + raw.count(b"E") < _BEARABLE:
        return False
    found = islice(_LARGE_EXPONENT.finditer(raw), _BEARABLE)
    return sum(1 for _ in found) == _BEARABLE


def finite(text: str) -> float:
    """The number that `text` spells. Raises `ValueError` for one beyond a double's range."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("Number out of range")
    return number


_PLAIN: Final = msgspec.json.Decoder()
_PATIENT: Final = msgspec.json.Decoder(float_hook=finite)
