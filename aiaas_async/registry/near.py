"""Near misses: what somebody who asked for an unknown name may have meant."""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

# Comparing texts costs some 10 µs a name, and a wrong name must not stall a server of many models.
_COMPARED: Final = 200


def near(asked: str, known: Sequence[str], limit: int = 3) -> list[str]:
    """Up to `limit` of the sorted names `known` that resemble `asked`, closest first.

    Of long lists only the neighbours in the alphabet are compared.
    """
    start = max(0, bisect_left(known, asked) - _COMPARED // 2)
    around = known if len(known) <= _COMPARED else known[start : start + _COMPARED]
    return difflib.get_close_matches(asked[:80], around, limit)


def say_near(asked: str, known: Sequence[str], nothing: str) -> str:
    """The end of a message: the near misses, else what exists, else `nothing`."""
    if not known:
        return nothing
    if found := near(asked, known):
        return f"did you mean {' or '.join(found)}?"
    more = f" and {len(known) - 8} more" if len(known) > 8 else ""
    return f"there are: {', '.join(known[:8])}{more}"
