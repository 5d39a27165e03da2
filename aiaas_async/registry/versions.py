"""Versions: the table of their states, and the order they come in.

Order is PEP 440's; strings that are no PEP 440 version come before all that are, by their text.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal, TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from aiaas_async.errors import ConflictError, InvalidError
from aiaas_async.names import ModelRef, clip

State = Literal["registered", "ready", "corrupt"]

TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    "registered": frozenset({"ready"}),  # commit: immutable from here on
    "ready": frozenset({"corrupt"}),  # files missing or damaged; delete it and commit anew
    "corrupt": frozenset(),
}
# Which state serves a caller better, where several versions would do.
STANDING: Final[dict[State, int]] = {"ready": 2, "registered": 1, "corrupt": 0}

MAX_SPECIFIER_LENGTH: Final = 256

OrderKey = tuple[int, Version, str]
T = TypeVar("T")
_NO_VERSION: Final = Version("0")


def check_move(ref: ModelRef, state: State, to: State) -> None:
    """Raise `ConflictError` unless the table lets a version go from `state` to `to`."""
    if to not in TRANSITIONS[state]:
        raise ConflictError(f"{ref} is {state} and cannot become {to}")


@lru_cache(maxsize=65536)
def parse(version: str) -> Version | None:
    """The PEP 440 meaning of a version string, None when it has none."""
    try:
        return Version(version)
    except InvalidVersion:
        return None


@lru_cache(maxsize=65536)
def order_key(version: str) -> OrderKey:
    """Sorts version strings; equal PEP 440 versions ("1.0", "1.0.0") by their text."""
    parsed = parse(version)
    return (0, _NO_VERSION, version) if parsed is None else (1, parsed, version)


def is_final(version: str) -> bool:
    """Whether `version` is a final release of PEP 440: no pre-release, no development release."""
    parsed = parse(version)
    return parsed is not None and not parsed.is_prerelease


def preference(version: str) -> tuple[bool, OrderKey]:
    """Sorts versions by who should be `latest`: every final release above any pre-release."""
    return is_final(version), order_key(version)


def is_specifier(text: str) -> bool:
    """Whether `text` is written as a PEP 440 specifier (">=1.0,<2") rather than as a version."""
    return text.lstrip()[:1] in tuple("<>=!~")


@lru_cache(maxsize=4096)
def parse_specifier(text: str) -> SpecifierSet:
    """Raises `InvalidError`."""
    try:
        # Cut, a text that is too long ends in an operator: no specifier.
        return SpecifierSet(text if len(text) <= MAX_SPECIFIER_LENGTH else text[:80] + ",==")
    except InvalidSpecifier as error:
        raise InvalidError(
            f"{clip(text)} is no version specifier; write one like '>=1.0,<2' or '~=1.4'"
        ) from error


def matches_specifier(version: str, specifier: str) -> bool:
    """Whether `version` satisfies `specifier`, pre-releases included.

    A version outside PEP 440 satisfies only `===` with its very text. Raises `InvalidError`.
    """
    wanted = parse_specifier(specifier)
    if parse(version) is None:
        return all(s.operator == "===" and s.version == version for s in wanted)
    return wanted.contains(version, prereleases=True)


def names_one(specifier: str) -> bool:
    """Whether a specifier is a version by its own name: "==1.0", also for "1"."""
    return all(
        s.operator in ("==", "===") and not s.version.endswith(".*")
        for s in parse_specifier(specifier)
    )


def asks_prereleases(specifier: str) -> bool:
    """Whether a specifier names a pre-release, so that they rank with the final releases."""
    return bool(parse_specifier(specifier).prereleases)


def best(candidates: Iterable[tuple[State, str, T]], *, prereleases: bool = False) -> T | None:
    """The one to serve of (state, version, anything): ready first, then final, then highest."""
    ranked = [
        (STANDING[state], (prereleases or preference(v)[0], order_key(v)), thing)
        for state, v, thing in candidates
    ]
    return max(ranked, key=lambda row: row[:2])[2] if ranked else None
