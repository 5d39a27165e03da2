"""The catalogue: every model, version and alias, immutable, so that a look-up is a dict access.

A change makes a new catalogue that shares what did not change (`evolved`); whoever holds the old
one keeps a consistent picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import msgspec

from aiaas_async.errors import ConflictError, NotFoundError
from aiaas_async.messages import FileEntry, Metadata
from aiaas_async.names import LATEST, ModelRef, clip
from aiaas_async.registry.near import say_near
from aiaas_async.registry.versions import (
    State,
    asks_prereleases,
    best,
    is_final,
    is_specifier,
    matches_specifier,
    order_key,
)


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


class AliasRecord(msgspec.Struct, frozen=True):
    """A movable name. `revision` grows with every change and is never used twice in a model."""

    name: str
    alias: str
    version: str
    revision: int


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
        """The highest ready version, final releases first; without a ready one, the highest."""
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
        if is_specifier(version):
            found = self._matching(version)
        if found is None:
            raise self._no_version(version)
        return found

    def _matching(self, specifier: str) -> VersionRecord | None:
        fitting = [r for v, r in self.versions.items() if matches_specifier(v, specifier)]
        return _best(fitting, prereleases=asks_prereleases(specifier))

    def _no_version(self, version: str) -> NotFoundError:
        known = sorted([*self.versions, *self.aliases])
        hint = say_near(version, known, "it has none")
        what = "version that satisfies" if is_specifier(version) else "version or alias"
        return NotFoundError(f"{self.name} has no {what} {clip(version)}; {hint}")


# What the input index knows of a model: its name under the input names of its latest version.
_Index = dict[frozenset[str], frozenset[str]]
_NO_NAMES: Final[frozenset[str]] = frozenset()


class Catalog:
    def __init__(self, models: Mapping[str, ModelRecord] | None = None) -> None:
        self._models: Mapping[str, ModelRecord] = models or {}
        self._index: _Index | None = None

    def __repr__(self) -> str:
        return f"<Catalog of {len(self._models)} models>"

    def __len__(self) -> int:
        return len(self._models)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(sorted(self._models))

    def names(self) -> tuple[str, ...]:
        """Every model's name, sorted."""
        return self._names

    def find(self, name: str) -> ModelRecord | None:
        return self._models.get(name)

    def model(self, name: str) -> ModelRecord:
        """Raises `NotFoundError` naming near misses."""
        found = self._models.get(name)
        if found is None:
            raise no_model(name, self._names)
        return found

    def version(self, name: str, version: str) -> VersionRecord:
        """A version by its string, an alias, "latest" or a PEP 440 specifier, in this order.

        Raises `NotFoundError` naming near misses.
        """
        model = self._models.get(name)
        if model is None:
            raise no_model(name, self._names)
        return model.versions.get(version) or model.resolve(version)

    def alias(self, name: str, alias: str) -> AliasRecord:
        """Raises `NotFoundError`."""
        return self.model(name).alias(alias)

    def latest(self, name: str) -> str | None:
        """The version string that "latest" stands for. Raises `NotFoundError`."""
        found = self.model(name).latest
        return None if found is None else found.ref.version

    def models(self) -> Iterator[ModelRecord]:
        return iter(self._models.values())

    def versions(self) -> Iterator[VersionRecord]:
        """Every version of every model."""
        return (record for model in self._models.values() for record in model.versions.values())

    def digests(self) -> set[str]:
        """SHA-256 (hex) of every file that any version holds."""
        return {entry.sha256 for record in self.versions() for entry in record.files}

    def taking(self, inputs: frozenset[str]) -> list[VersionRecord]:
        """The latest version of each model whose latest version takes exactly `inputs`."""
        names = sorted(self.index.get(inputs, _NO_NAMES))
        latest = [self._models[name].latest for name in names]
        return [record for record in latest if record is not None]

    @property
    def index(self) -> _Index:
        """Model names by the input names of their latest versions."""
        if self._index is None:
            self._index = _indexed({}, (), self._models.values())
        return self._index

    def evolved(self, changed: Mapping[str, ModelRecord | None]) -> Catalog:
        """This catalogue with some models replaced, or gone (None)."""
        models = dict(self._models)
        for name, model in changed.items():
            if model is None:
                models.pop(name, None)
            else:
                models[name] = model
        new = Catalog(models)
        if self._index is not None:
            before = [self._models[name] for name in changed if name in self._models]
            after = [model for model in changed.values() if model is not None]
            new._index = _indexed(self._index, before, after)
        return new


def _indexed(index: _Index, before: Iterable[ModelRecord], after: Iterable[ModelRecord]) -> _Index:
    """`index` without what it says of the models `before`, and with those of `after`."""
    index = dict(index)
    for model in before:
        index[_takes(model)] = index.get(_takes(model), _NO_NAMES) - {model.name}
    for model in after:
        index[_takes(model)] = index.get(_takes(model), _NO_NAMES) | {model.name}
    return {inputs: names for inputs, names in index.items() if inputs and names}


def _takes(model: ModelRecord) -> frozenset[str]:
    specs = () if model.latest is None else model.latest.metadata.inputs
    return frozenset(spec.name for spec in specs)


def _best(records: Iterable[VersionRecord], *, prereleases: bool = False) -> VersionRecord | None:
    return best(((r.state, r.ref.version, r) for r in records), prereleases=prereleases)


def no_model(name: str, known: tuple[str, ...]) -> NotFoundError:
    hint = say_near(name, known, "none is registered yet: POST /register")
    return NotFoundError(f"no model is called {clip(name)}; {hint}")
