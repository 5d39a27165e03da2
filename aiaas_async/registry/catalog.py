"""The catalogue: every model, version and alias, immutable, so that a look-up is a dict access.

A change makes a new catalogue that shares what did not change (`evolved`); whoever holds the old
one keeps a consistent picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Final

from aiaas_async.errors import NotFoundError
from aiaas_async.names import clip
from aiaas_async.registry.near import say_near
from aiaas_async.registry.records import AliasRecord, ModelRecord, VersionRecord

__all__ = ["NONE_YET", "AliasRecord", "Catalog", "ModelRecord", "VersionRecord", "no_model"]

NONE_YET: Final = "none is registered yet: `aiaas push` or POST /register"

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


def no_model(name: str, known: tuple[str, ...]) -> NotFoundError:
    hint = say_near(name, known, NONE_YET)
    return NotFoundError(f"no model is called {clip(name)}; {hint}")
