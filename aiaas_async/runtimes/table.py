"""The table of runtimes: name → module, imported when a version first asks for it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import cache
from typing import Final

from aiaas_async.errors import InvalidError
from aiaas_async.names import clip
from aiaas_async.runtimes.base import Runtime


def _numpy() -> Runtime:
    from aiaas_async.runtimes.layers import LayersRuntime  # noqa: PLC0415 - loaded when needed

    return LayersRuntime()


_RUNTIMES: Final[dict[str, Callable[[], Runtime]]] = {"numpy": _numpy}
NAMES: Final = tuple(_RUNTIMES)


def runtime(name: str) -> Runtime:
    """The runtime called `name`. Raises `InvalidError` naming those that are known."""
    if name not in _RUNTIMES:
        close = difflib.get_close_matches(name[:64], NAMES, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InvalidError(f"runtime {clip(name)} is not known: {', '.join(NAMES)}{hint}")
    return _started(name)


@cache
def _started(name: str) -> Runtime:
    return _RUNTIMES[name]()
