"""Records: a version, an alias, and a model that holds both; immutable.

A model's answers that cost something (its order, its latest version) are worked out once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

import msgspec

from aiaas_async.errors import ConflictError, NotFoundError
from aiaas_async.messages import FileEntry, Metadata
from aiaas_async.names import LATEST, ModelRef, clip
from aiaas_async.registry.near import say_near
from aiaas_async.registry.versions import (
    STANDING,
    State,
    asks_prereleases,
    best,
    is_final,
    is_specifier,
    matches_specifier,
    names_one,
    order_key,
)


class Candidate(msgspec.Struct, frozen=True):
    """Why a version did not get the alias it was made for: nobody who does not name it gets it."""

    alias: str
    reason: str


class VersionRecord(msgspec.Struct, frozen=True):
    """One version. `registered` is what the user wrote, `metadata` the same with the signature
    found in the artifact; `nbytes` are resident when loaded; times are Unix seconds, for show."""

    ref: ModelRef
    metadata: Metadata
    registered: Metadata
    created_at: float
    state: State = "registered"
    reason: str | None = None
    files: tuple[FileEntry, ...] = ()
    nbytes: int = 0
    committed_at: float | None = None
    digest: str | None = None
    candidate: Candidate | None = None

    @property
    def standing(self) -> int:
        """Who serves a caller better, where several versions would do."""
        return STANDING["registered"] if self.candidate is not None else STANDING[self.state]

    def check_open(self) -> None:
        """Raise `ConflictError` once the version is committed."""
        if self.state != "registered":
            raise ConflictError(
                f"{self.ref} is committed and immutable: register another version for other files"
            )

    def file(self, path: str) -> FileEntry:
        """Raises `NotFoundError` naming the files there are."""
        for entry in self.files:
            if entry.path == path:
                return entry
        hint = say_near(path, sorted(e.path for e in self.files), "it has none")
        raise NotFoundError(f"{self.ref} has no file {clip(path)}; {hint}")


class Traffic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who else gets an alias's calls: the version `canary` a share `weight` of them, and
    `shadow` a copy of each, whose answers nobody sees."""

    canary: str | None = None
    weight: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.0
    shadow: str | None = None

    @property
    def versions(self) -> tuple[str, ...]:
        return tuple(v for v in (self.canary, self.shadow) if v is not None)


NO_SPLIT = Traffic()


class AliasRecord(msgspec.Struct, frozen=True):
    """A movable name. `revision` grows with every change and is never used twice in a model;
    `previous` are the versions it pointed at before, newest last."""

    name: str
    alias: str
    version: str
    revision: int
    previous: tuple[str, ...] = ()
    traffic: Traffic = NO_SPLIT


@dataclass(frozen=True)
class ModelRecord:
    """One model; `revision` is the highest any of its aliases ever had."""

    name: str
    versions: Mapping[str, VersionRecord] = field(default_factory=dict)
    aliases: Mapping[str, AliasRecord] = field(default_factory=dict)
    revision: int = 0

    @cached_property
    def _ordered(self) -> tuple[VersionRecord, ...]:
        return tuple(sorted(self.versions.values(), key=lambda r: order_key(r.ref.version)))

    def ordered(self) -> tuple[VersionRecord, ...]:
        """Every version, newest last."""
        return self._ordered

    @cached_property
    def latest(self) -> VersionRecord | None:
        """The highest ready version, final releases first; without a ready one, the highest.
        No candidate: those are for who names them."""
        return _best(self.versions.values())

    @cached_property
    def places(self) -> Mapping[str, tuple[bool, float]]:
        """Of each version, whether it is a final release, and its place (to 1, the newest) among
        those that are, or are not."""
        places: dict[str, tuple[bool, float]] = {}
        for final in (True, False):
            kind = [r.ref.version for r in self._ordered if is_final(r.ref.version) is final]
            places |= {v: (final, place / len(kind)) for place, v in enumerate(kind, 1)}
        return places

    def exact(self, version: str) -> VersionRecord:
        """By its version string alone. Raises `NotFoundError`."""
        found = self.versions.get(version)
        if found is None:
            hint = say_near(version, sorted(self.versions), "it has none")
            raise NotFoundError(f"{self.name} has no version {clip(version)}; {hint}")
        return found

    def alias(self, alias: str) -> AliasRecord:
        """Raises `NotFoundError`."""
        try:
            return self.aliases[alias]
        except KeyError:
            hint = say_near(alias, sorted(self.aliases), "it has none")
            raise NotFoundError(f"{self.name} has no alias {clip(alias)}; {hint}") from None

    def resolve(self, version: str) -> VersionRecord:
        """By exact version, alias, "latest" or specifier, in this order.

        Raises `NotFoundError`, and `InvalidError` for a specifier that is none.
        """
        if (exact := self.versions.get(version)) is not None:
            return exact
        if (alias := self.aliases.get(version)) is not None:
            return self.versions[alias.version]
        found = self.latest if version == LATEST else None
        if found is None and is_specifier(version):
            found = self._matching(version)
        if found is None:
            raise self._no_version(version)
        return found

    def _matching(self, specifier: str) -> VersionRecord | None:
        fitting = [r for v, r in self.versions.items() if matches_specifier(v, specifier)]
        found = _best(fitting, prereleases=asks_prereleases(specifier))
        return fitting[0] if found is None and fitting and names_one(specifier) else found

    def _held_back(self, version: str) -> NotFoundError | None:
        """Where candidates alone would do for `version`: which one, why not, and what to do."""
        specifier = is_specifier(version)
        if not specifier and version != LATEST:
            return None
        for record in reversed(self.ordered()):
            ref, held = record.ref, record.candidate
            if held is not None and (not specifier or matches_specifier(ref.version, version)):
                return NotFoundError(
                    f"{self.name} has no version for {clip(version)} but the candidate "
                    f"{ref.version}: {held.reason}. Name it, {ref}, or release it: `aiaas models "
                    f"{ref} --release`, POST /models/{ref.name}/versions/{ref.version}/release",
                    {"candidate": ref.version, "reason": held.reason},
                )
        return None

    def _no_version(self, version: str) -> NotFoundError:
        if held := self._held_back(version):
            return held
        known = sorted([*self.versions, *self.aliases])
        hint = say_near(version, known, "it has none")
        what = "version that satisfies" if is_specifier(version) else "version or alias"
        return NotFoundError(f"{self.name} has no {what} {clip(version)}; {hint}")


def _best(records: Iterable[VersionRecord], *, prereleases: bool = False) -> VersionRecord | None:
    offered = ((r.state, r.ref.version, r) for r in records if r.candidate is None)
    return best(offered, prereleases=prereleases)
