"""Names and references: what a model, a version, an alias or a data set may be called.

A name never becomes part of a path; the pattern exists so that it is also safe in URLs,
logs and metric labels.
"""

from __future__ import annotations

import itertools
import re
import reprlib
from typing import NamedTuple

from aiaas_async.errors import InvalidNameError

NAME_PATTERN = "^[a-z0-9][a-z0-9._-]{0,63}$"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
MAX_VERSION_LENGTH = 64
LATEST = "latest"
WARM_UPS = "warmup/"  # what the files of calls that are run before a version is ready begin with


def check_name(name: str, what: str = "name") -> str:
    """Return `name` if it is a legal name, else raise `InvalidNameError`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name:
        raise InvalidNameError(
            f"{what} {clip(name)} is not allowed: use {NAME_PATTERN} and no '..'",
            {"given": clip(name), "pattern": NAME_PATTERN},
        )
    return name


def check_version(version: str) -> str:
    """Return `version` if it is 1 to 64 printable characters without '/' or space, else raise.

    'latest' is refused because it is computed (`registry/versions.py`).
    """
    printable = isinstance(version, str) and version.isprintable() and " " not in version
    if not printable or not 1 <= len(version) <= MAX_VERSION_LENGTH or "/" in version:
        raise InvalidNameError(
            f"version {clip(version)} is not allowed: 1 to {MAX_VERSION_LENGTH} printable "
            "characters, no '/', no space",
            {"given": clip(version)},
        )
    if version == LATEST:
        raise InvalidNameError("version 'latest' is computed and cannot be registered")
    return version


def clip(value: object, limit: int = 80) -> str:
    """`value` quoted for a message, cut to `limit` characters.

    Only what may be shown is looked at: the whole repr of 15 MiB took 78 ms.
    """
    if isinstance(value, str | bytes | bytearray):
        text = repr(value[: limit + 1])
    else:
        text = _brief.repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


class _Brief(reprlib.Repr):
    """Containers by their first entries, whole numbers by their first digits."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 4, 200, 400
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 40

    def repr_memoryview(self, x: memoryview, level: int) -> str:
        del level
        return repr(bytes(x[: self.maxstring]))

    def repr_int(self, x: int, level: int) -> str:
        del level
        return repr(x) if x.bit_length() < 1024 else f"a whole number of {x.bit_length()} bits"

    def repr_dict(self, x: dict[object, object], level: int) -> str:
        """As they come: sorting a million keys is no business of a message."""
        if level <= 0:
            return "{...}" if x else "{}"
        shown = itertools.islice(x.items(), self.maxdict)
        pairs = [f"{self.repr1(k, level - 1)}: {self.repr1(v, level - 1)}" for k, v in shown]
        return "{" + ", ".join(pairs + ["..."] * (len(x) > self.maxdict)) + "}"


_brief = _Brief()


class ModelRef(NamedTuple):
    """One version of one model."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"
