"""A draft: what may be done to a catalogue, each rule checked before anything is changed.

A draft collects changes over a base it leaves alone. When it is done, `catalog()` is the new
catalogue and `writes` the rows that bring the disk to the same state. Drafts stack (`fork`,
`absorb`), so that one of many mutations can fail without a trace.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from aiaas_async.errors import ConflictError, InvalidError, NotReadyError
from aiaas_async.messages import FileEntry, Metadata, TensorSpec
from aiaas_async.names import LATEST, ModelRef, check_name, clip
from aiaas_async.registry.catalog import AliasRecord, Catalog, ModelRecord, VersionRecord, no_model
from aiaas_async.registry.labels import check_label
from aiaas_async.registry.records import NO_SPLIT, Candidate, Traffic
from aiaas_async.registry.rows import Counter, Writes, digest, encode, exact
from aiaas_async.registry.rules import (
    check_distinct,
    check_ready,
    check_revision,
    check_same,
    check_traffic,
    completed,
)
from aiaas_async.registry.versions import check_move

MAX_FILES: Final = 1000
MAX_PREVIOUS: Final = 16  # versions an alias remembers


class Draft:
    """`clock` gives Unix seconds."""

    def __init__(self, base: Catalog | Draft, clock: Callable[[], float] = time.time) -> None:
        self._base, self._clock = base, clock
        self._changed: dict[str, ModelRecord | None] = {}
        self.writes: Writes = {}

    def fork(self) -> Draft:
        """A draft over this one, whose changes count only once absorbed."""
        return Draft(self, self._clock)

    def absorb(self, fork: Draft) -> None:
        self._changed |= fork._changed
        self.writes |= fork.writes

    def catalog(self) -> Catalog:
        """The catalogue with this draft's changes."""
        base = self._base if isinstance(self._base, Catalog) else self._base.catalog()
        return base.evolved(self._changed) if self._changed else base

    def names(self) -> tuple[str, ...]:
        """The base's names: good enough for a hint, and sorted once."""
        return self._base.names()

    def find(self, name: str) -> ModelRecord | None:
        return self._changed[name] if name in self._changed else self._base.find(name)

    def model(self, name: str) -> ModelRecord:
        """Raises `NotFoundError`."""
        found = self.find(name)
        if found is None:
            raise no_model(name, self.names())
        return found

    def version(self, ref: ModelRef) -> VersionRecord:
        """By its exact version string. Raises `NotFoundError`."""
        return self.model(ref.name).exact(ref.version)

    # --- versions

    def register(self, metadata: Metadata) -> tuple[VersionRecord, bool]:
        """The record, and whether it is new. Raises `ConflictError` for other metadata."""
        metadata = exact(metadata)
        model = self.find(metadata.name) or ModelRecord(metadata.name)
        if (known := model.versions.get(metadata.version)) is not None:
            check_same(known, metadata)
            return known, False
        if metadata.version in model.aliases:
            raise ConflictError(
                f"{clip(metadata.version)} is an alias of {model.name}; delete the alias or "
                "register under another version"
            )
        check_distinct(model, metadata.version)
        record = VersionRecord(metadata.ref, metadata, metadata, self._clock())
        return self._put_version(record), True

    def add_file(self, ref: ModelRef, entry: FileEntry) -> VersionRecord:
        """Add a file, in place of any with its path. Raises `ConflictError` after the commit."""
        check_label(entry.path)
        record = self.version(ref)
        record.check_open()
        files = [known for known in record.files if known.path != entry.path]
        if len(files) >= MAX_FILES:
            raise InvalidError(f"{ref} has {len(files)} files already; at most {MAX_FILES}")
        return self._put_version(record, files=(*files, entry))

    def commit(
        self,
        ref: ModelRef,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        nbytes: int,
        files_seen: Sequence[FileEntry],
        *,
        graph: Mapping[str, Any] | None = None,
    ) -> VersionRecord:
        """Make a version ready and immutable, with the signature its artifact was found to have.

        Committing again changes nothing. Raises `InvalidError` where the artifact contradicts
        what was registered, `ConflictError` when its files changed since `files_seen`.
        """
        record = self.version(ref)
        if record.committed_at is not None:
            return record
        check_move(ref, record.state, "ready")
        metadata = completed(record.registered, inputs, outputs, graph)
        if not record.files and metadata.graph is None:
            raise NotReadyError(
                f"{ref} has neither files nor a layer graph; upload its files first"
            )
        if record.files != tuple(files_seen):
            raise ConflictError(f"the files of {ref} changed while they were read; commit again")
        return self._put_version(
            record,
            state="ready",
            metadata=metadata,
            nbytes=nbytes,
            committed_at=self._clock(),
            digest=digest(metadata, record.files),
        )

    def annotate(
        self, ref: ModelRef, metrics: Mapping[str, float], lineage: Mapping[str, Any] | None
    ) -> VersionRecord:
        """Add what was measured, and where it comes from, to a version that is still open."""
        record = self.version(ref)
        record.check_open()
        given = record.registered
        complete = msgspec.structs.replace(
            given, metrics={**given.metrics, **metrics}, lineage=dict(lineage) if lineage else None
        )
        return self._put_version(record, registered=complete, metadata=complete)

    def register_committed(
        self,
        metadata: Metadata,
        files: Sequence[FileEntry],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        nbytes: int,
    ) -> VersionRecord:
        """Register, add files and commit at once. The same again is fine."""
        record, created = self.register(metadata)
        if created or record.committed_at is None:
            for entry in files:
                self.add_file(record.ref, entry)
        elif sorted(record.files, key=_path) != sorted(files, key=_path):
            raise ConflictError(f"{record.ref} is committed with other files")
        seen = self.version(record.ref).files
        return self.commit(record.ref, inputs, outputs, nbytes, seen)

    def hold_back(self, ref: ModelRef, alias: str, reason: str) -> VersionRecord:
        """A version is not to have `alias`, for which it was made: a candidate from now on."""
        return self._put_version(self.version(ref), candidate=Candidate(alias, reason))

    def release(self, ref: ModelRef) -> VersionRecord:
        """A candidate is a version like any other from now on."""
        record = self.version(ref)
        return record if record.candidate is None else self._put_version(record, candidate=None)

    def mark_corrupt(self, ref: ModelRef, reason: str) -> VersionRecord:
        """A committed version's files are missing or damaged; it is refused from now on."""
        record = self.version(ref)
        if record.state == "corrupt":
            return record
        check_move(ref, record.state, "corrupt")
        return self._put_version(record, state="corrupt", reason=reason)

    def delete_version(self, ref: ModelRef) -> None:
        """Raises `ConflictError` while an alias points at it."""
        model = self.model(ref.name)
        model.exact(ref.version)
        for alias in model.aliases.values():
            if ref.version in (alias.version, *alias.traffic.versions):
                raise ConflictError(
                    f"alias {alias.alias} points at {ref}; move or delete the alias first",
                    {"alias": alias.alias},
                )
        if len(model.versions) == 1:
            return self.delete_model(ref.name)
        versions = {v: r for v, r in model.versions.items() if v != ref.version}
        self._changed[ref.name] = replace(model, versions=versions)
        self.writes["versions", ref.name, ref.version] = None
        return None

    def delete_model(self, name: str) -> None:
        """Delete every version and alias of a model."""
        model = self.model(name)
        self._changed[name] = None
        self.writes |= {("aliases", name, alias): None for alias in model.aliases}
        self.writes |= {("versions", name, version): None for version in model.versions}
        self.writes["models", name] = None

    # --- aliases

    def set_alias(
        self,
        name: str,
        alias: str,
        version: str,
        expected_revision: int | None = None,
        traffic: Traffic = NO_SPLIT,
    ) -> AliasRecord:
        """Point `alias` at an exact version, and share its calls as `traffic` says.

        `expected_revision` makes it compare-and-set: 0 means that there must be none yet.
        Raises `PreconditionError` when another was faster, `ConflictError` for a taken name or a
        version that is not ready, `InvalidError` for a share that contradicts itself.
        """
        check_name(alias, "alias")
        model = self.model(name)
        if alias == LATEST or alias in model.versions:
            what = "computed" if alias == LATEST else "a version of this model"
            raise ConflictError(f"{clip(alias)} cannot be an alias of {name}: it is {what}")
        named = [model.exact(each) for each in (version, *traffic.versions)]
        check_traffic(version, traffic)
        known = model.aliases.get(alias)
        if expected_revision is not None:
            check_revision(name, alias, known, expected_revision)
        if known is not None and (known.version, known.traffic) == (version, traffic):
            return known
        for record in named:
            check_ready(record)
        held = named[0].candidate
        if held is not None and held.alias == alias:  # whoever does this overrules the gate
            self.release(named[0].ref)
            model = self.model(name)
        previous = known.previous if known is not None else ()
        if known is not None and known.version != version:
            previous = (*previous, known.version)
        return self._put_alias(model, AliasRecord(name, alias, version, 0, previous, traffic))

    def roll_back_alias(
        self, name: str, alias: str, expected_revision: int | None = None
    ) -> AliasRecord:
        """Point `alias` at the version it had before; one that is gone or not ready is passed over.

        Raises `NotFoundError`, `PreconditionError`, and `ConflictError` when there is none.
        """
        model = self.model(name)
        known = model.alias(alias)
        if expected_revision is not None:
            check_revision(name, alias, known, expected_revision)
        for at in reversed(range(len(known.previous))):
            version = known.previous[at]
            record = model.versions.get(version)
            if record is not None and record.state == "ready" and version != known.version:
                earlier = AliasRecord(name, alias, version, 0, known.previous[:at])
                return self._put_alias(model, earlier)
        raise ConflictError(
            f"alias {alias} of {name} has no earlier version to go back to; it is at "
            f"{known.version}: point it at another version"
        )

    def _put_alias(self, model: ModelRecord, given: AliasRecord) -> AliasRecord:
        """Store an alias under the model's next revision."""
        name, alias, revision = given.name, given.alias, model.revision + 1
        previous = given.previous[-MAX_PREVIOUS:]
        record = msgspec.structs.replace(given, revision=revision, previous=previous)
        aliases = {**model.aliases, alias: record}
        self._changed[name] = replace(model, aliases=aliases, revision=revision)
        self.writes["aliases", name, alias] = encode(record)
        self.writes["models", name] = encode(Counter(name, revision))
        return record

    def delete_alias(self, name: str, alias: str) -> None:
        """Raises `NotFoundError`."""
        model = self.model(name)
        model.alias(alias)
        aliases = {a: r for a, r in model.aliases.items() if a != alias}
        self._changed[name] = replace(model, aliases=aliases)
        self.writes["aliases", name, alias] = None

    # --- jobs: opaque to the registry

    def save_job(self, job_id: str, record: bytes) -> None:
        self.writes["jobs", job_id] = record

    def delete_job(self, job_id: str) -> None:
        self.writes["jobs", job_id] = None

    def _put_version(self, record: VersionRecord, **changes: Any) -> VersionRecord:
        record = msgspec.structs.replace(record, **changes)
        model = self.find(record.ref.name) or ModelRecord(record.ref.name)
        versions = {**model.versions, record.ref.version: record}
        self.writes["versions", *record.ref] = encode(record)
        self._changed[model.name] = replace(model, versions=versions)
        return record


def _path(entry: FileEntry) -> str:
    return entry.path
