"""The table of runtimes: name → module, imported when a version first asks for it.

A name is built in, or named in the server's configuration, or installed as an entry point; the
first of these that knows it decides. A request only ever chooses among these names.
"""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

from aiaas_async.errors import InvalidError
from aiaas_async.names import check_name, clip
from aiaas_async.runtimes.base import Runtime
from aiaas_async.runtimes.custom import CustomRuntime, check_target

ENTRY_POINTS: Final = "aiaas_async.runtimes"


def _numpy() -> Runtime:
    from aiaas_async.runtimes.layers import LayersRuntime  # noqa: PLC0415 - loaded when needed

    return LayersRuntime()


def _onnx() -> Runtime:
    try:
        from aiaas_async.runtimes.onnx import OnnxRuntime  # noqa: PLC0415 - an extra, and heavy
    except ImportError as error:
        raise InvalidError(
            "runtime onnx needs the extra: pip install 'aiaas-async[onnx]'"
        ) from error
    return OnnxRuntime()


_BUILT_IN: Final[dict[str, Callable[[], Runtime]]] = {"numpy": _numpy, "onnx": _onnx}
NAMES: Final = tuple(_BUILT_IN)
NO_TARGETS: Final[Mapping[str, str]] = MappingProxyType({})


class Runtimes:
    """Runtimes by name, each started once. `targets` are those of the configuration: name →
    "package.module:Class"."""

    def __init__(self, targets: Mapping[str, str] = NO_TARGETS) -> None:
        self._targets = check_targets(targets)
        self._started: dict[str, Runtime] = {}

    def __getitem__(self, name: str) -> Runtime:
        """Raises `InvalidError` naming those that are known."""
        if name not in self._started:
            self._started[name] = self._start(name)
        return self._started[name]

    def check(self, name: str) -> None:
        """Raise `InvalidError` where the class that the configuration names cannot be used."""
        CustomRuntime(name, self._targets[name]).check()

    def _start(self, name: str) -> Runtime:
        if name in _BUILT_IN:
            return _BUILT_IN[name]()
        targets = {**_installed(), **self._targets}
        if name not in targets:
            known = (*NAMES, *sorted(targets))
            close = difflib.get_close_matches(name[:64], known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InvalidError(f"runtime {clip(name)} is not known: {', '.join(known)}{hint}")
        return CustomRuntime(name, targets[name])


def check_targets(targets: Mapping[str, str]) -> dict[str, str]:
    """`targets`, if each has a free name and reads right. Raises `InvalidError`."""
    for name, target in targets.items():
        check_name(name, "runtime")
        if name in _BUILT_IN:
            raise InvalidError(f"runtime {name} is built in; give yours another name")
        check_target(name, target)
    return dict(targets)


@cache
def _installed() -> Mapping[str, str]:
    """What installed packages offer; which are installed does not change while a worker lives."""
    found = importlib.metadata.entry_points(group=ENTRY_POINTS)
    return {each.name: each.value for each in found if each.name not in _BUILT_IN}
