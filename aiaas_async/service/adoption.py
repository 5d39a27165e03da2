"""Adoption: files that a worker of ours wrote become a version, and an alias moves to it.

They are examined like anybody's. A version that shall be promoted is loaded, and run once, on the
node its calls will go to; only then it is committed and the alias moved, in one transaction. One
that must not be promoted, or cannot be loaded, is committed all the same: a candidate, with the
reason why the alias stayed where it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from aiaas_async.errors import AiaasError, ConflictError
from aiaas_async.messages import FileEntry, Metadata
from aiaas_async.names import ModelRef
from aiaas_async.nn.submodel import blank_inputs
from aiaas_async.node.work import Call, Hold, Servable
from aiaas_async.registry.artifacts import ArtifactStore
from aiaas_async.registry.draft import Draft
from aiaas_async.registry.records import VersionRecord
from aiaas_async.registry.writer import RegistryWriter
from aiaas_async.service.cluster import Cluster
from aiaas_async.service.models import Models
from aiaas_async.service.traffic import tell_alias

logger = logging.getLogger(__name__)

_LOAD_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Promotion:
    """Point `alias` at a new version: only if it is at `revision` still (0: absent; None: in any
    case), and not if there is a `refusal`, which says why."""

    alias: str
    revision: int | None = None
    refusal: str | None = None

    def apply(self, draft: Draft, ref: ModelRef) -> str | None:
        """Move the alias, or say why it stays. A version that is refused is a candidate; one
        whose alias somebody else moved is not: nothing is wrong with it."""
        if self.refusal is not None or self.revision is None:
            if self.refusal is None:
                draft.set_alias(ref.name, self.alias, ref.version)
            else:
                draft.hold_back(ref, self.alias, self.refusal)
            return self.refusal
        try:
            draft.set_alias(ref.name, self.alias, ref.version, self.revision)
        except ConflictError as error:
            return error.message
        return None


class Adoption:
    def __init__(
        self, models: Models, writer: RegistryWriter, artifacts: ArtifactStore, cluster: Cluster
    ) -> None:
        self._models, self._writer = models, writer
        self._artifacts, self._cluster = artifacts, cluster

    async def adopt(
        self, metadata: Metadata, files: Mapping[str, Path], promotion: Promotion | None = None
    ) -> tuple[VersionRecord, str | None]:
        """The new version, and why its alias stayed where it was, if so. Files are moved into
        the store. Raises `ConflictError` for a version that is committed with other files."""
        loop = asyncio.get_running_loop()
        taken: list[FileEntry] = []
        try:
            for label, path in files.items():
                sha256, size = await loop.run_in_executor(None, self._artifacts.adopt, path)
                taken.append(FileEntry(label, sha256, size))
            return await self._commit(metadata, taken, promotion)
        finally:
            for entry in taken:
                self._artifacts.release(entry.sha256)

    def adopted(self, ref: ModelRef, job_id: str) -> VersionRecord | None:
        """The version `ref` if it is what job `job_id` came to: the server was killed before the
        job's record said so."""
        model = self._models.catalog.find(ref.name)
        record = None if model is None else model.versions.get(ref.version)
        if record is None or record.committed_at is None:
            return None
        return record if (record.metadata.lineage or {}).get("job") == job_id else None

    def why_not(self, alias: str, record: VersionRecord) -> str | None:
        """Why `alias` did not move to `record` when it was adopted; None: it did."""
        if record.candidate is not None:
            return record.candidate.reason
        known = self._models.catalog.model(record.ref.name).aliases.get(alias)
        if known is not None and record.ref.version in (known.version, *known.previous):
            return None
        return f"alias {record.ref.name}:{alias} was changed by somebody else meanwhile"

    async def _commit(
        self, metadata: Metadata, files: Sequence[FileEntry], promotion: Promotion | None
    ) -> tuple[VersionRecord, str | None]:
        found = await self._models.inspect(self._models.files_of(metadata, files))
        whole = msgspec.structs.replace(metadata, inputs=found.inputs, outputs=found.outputs)
        if promotion is not None and promotion.refusal is None:
            refusal = await self._warm(self._models.form(whole, files, found.nbytes))
            promotion = replace(promotion, refusal=refusal)

        def commit(draft: Draft) -> tuple[VersionRecord, str | None]:
            registered = _registered_or(draft, metadata)
            ref = draft.register_committed(
                registered, files, found.inputs, found.outputs, found.nbytes
            ).ref
            reason = None if promotion is None else promotion.apply(draft, ref)
            return draft.version(ref), reason

        try:
            record, reason = await self._writer.mutate(commit)
        except AiaasError:
            await self._models.unload(metadata.ref)
            raise
        logger.info("%s is committed: %d files, %d bytes", record.ref, len(files), found.nbytes)
        await self._models.lay_out(record)
        if promotion is not None and reason is None:
            tell_alias(self._models.catalog.alias(record.ref.name, promotion.alias))
        elif promotion is not None:
            logger.info("alias %s:%s stays: %s", record.ref.name, promotion.alias, reason)
        return record, reason

    async def _warm(self, servable: Servable) -> str | None:
        """Load it where its calls go, and run it once; why that cannot be, if so."""
        deadline = asyncio.get_running_loop().time() + _LOAD_TIMEOUT_S
        try:
            await self._cluster.ask(servable.id, Hold(servable), 0, deadline)
            if all(size >= 0 for spec in servable.inputs for size in spec.shape or ()):
                call = Call(servable, blank_inputs(servable.inputs, 1), 1)
                await self._cluster.ask(servable.id, call, 0, deadline)
        except AiaasError as error:
            logger.warning("%s is not promoted: %s", servable.ref, error.message)
            return f"it could not be loaded: {error.message}"
        return None


def _registered_or(draft: Draft, metadata: Metadata) -> Metadata:
    """What the user registered beforehand, with the measured metrics and the lineage; else all
    of `metadata`."""
    model = draft.find(metadata.name)
    if model is None or metadata.version not in model.versions:
        return metadata
    return draft.annotate(metadata.ref, metadata.metrics, metadata.lineage).registered
