"""Models: register, upload, commit, alias, delete; and the servable form of a version.

Every mutation goes through the registry's writer: decided against the catalogue in one step,
acknowledged when it is on disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from aiaas_async.compute.base import WorkerSource
from aiaas_async.compute.jobs import ArtifactFiles, Inspect, Inspected
from aiaas_async.discovery.match import Matches, candidates, match
from aiaas_async.discovery.query import Query
from aiaas_async.errors import (
    AiaasError,
    ArtifactError,
    ConflictError,
    CorruptError,
    NotReadyError,
    StoppingError,
    WorkerDiedError,
)
from aiaas_async.messages import FileEntry, Metadata, parse_metadata
from aiaas_async.names import ModelRef, check_name
from aiaas_async.nn.network import Network
from aiaas_async.node.work import Release, Servable
from aiaas_async.registry.artifacts import ArtifactStore
from aiaas_async.registry.catalog import Catalog
from aiaas_async.registry.draft import Draft
from aiaas_async.registry.records import NO_SPLIT, AliasRecord, Traffic, VersionRecord
from aiaas_async.registry.writer import RegistryWriter
from aiaas_async.runtimes.base import Artifact
from aiaas_async.runtimes.layers import network_of
from aiaas_async.service.cluster import Cluster
from aiaas_async.service.layouts import Layouts
from aiaas_async.service.ownthreads import OwnThreads
from aiaas_async.service.statistics import CallStatistics
from aiaas_async.service.traffic import tell_alias

logger = logging.getLogger(__name__)

MATCHED_AT_ONCE = 1000  # versions, in the loop: they take 3 to 9 ms
_GATHER = 1 << 20  # bytes gathered before a trip to a thread
_WHAT_TO_UPLOAD = (
    "{ref} is registered but has no artifact: upload its files (`aiaas push {ref} PATH`, or PUT "
    "/models/{name}/versions/{version}/files/…, then POST …/commit)"
)
_INSPECT_TIMEOUT_S = 60.0
LAYOUT_PATIENCE_S = 10.0  # of whoever waits for a commit or a deployment; enough for 10 GB


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Defaults of every version's batching."""

    max_batch_size: int
    max_delay_s: float


class Models:
    def __init__(
        self,
        writer: RegistryWriter,
        artifacts: ArtifactStore,
        workers: WorkerSource,
        cluster: Cluster,
        batching: BatchLimits,
        layouts: Layouts,
    ) -> None:
        self._writer, self._artifacts = writer, artifacts
        self._workers, self._cluster = workers, cluster
        self._batching, self._layouts = batching, layouts
        self._batching_of: dict[str, BatchLimits] = {}
        self._servables: dict[ModelRef, tuple[VersionRecord, Servable]] = {}
        # One thread: several would keep the loop from its turns.
        self._matching = OwnThreads("queries over many versions")
        self.statistics = CallStatistics()
        # Who else holds on to a version: each says why it may not go, or None.
        self.users: list[Callable[[ModelRef], str | None]] = []

    @property
    def catalog(self) -> Catalog:
        """The catalogue as of the last acknowledged change."""
        return self._writer.catalog

    async def register(self, body: Mapping[str, Any]) -> VersionRecord:
        """Store metadata. The same again is fine; other metadata raises `ConflictError`."""
        metadata = parse_metadata(body)
        record, _ = await self._writer.mutate(lambda draft: draft.register(metadata))
        return record

    async def upload(
        self, ref: ModelRef, path: str, chunks: AsyncIterator[bytes], expected: str | None
    ) -> FileEntry:
        """Stream a file of `ref` to disk; `expected` is its SHA-256 (hex) if the caller knows it.

        Raises `NotFoundError`, `ConflictError` after the commit, `DigestError`, `TooLargeError`.
        """
        self.catalog.version(*ref).check_open()
        loop = asyncio.get_running_loop()
        upload = await loop.run_in_executor(None, self._artifacts.begin)
        try:
            async for piece in _gathered(chunks):
                await loop.run_in_executor(None, upload.write, piece)
            sha256, size = await loop.run_in_executor(None, partial(upload.finish, expected))
        except BaseException:
            await asyncio.shield(loop.run_in_executor(None, upload.abort))
            raise
        entry = FileEntry(path, sha256, size)
        try:
            await self._writer.mutate(lambda draft: draft.add_file(ref, entry))
        finally:
            self._artifacts.release(sha256)
        return entry

    async def commit(self, ref: ModelRef) -> VersionRecord:
        """Make a version immutable and callable, once a worker has found its artifact sound."""
        record = self.catalog.version(*ref)
        if record.committed_at is not None:
            return record
        if not record.files and record.metadata.graph is None:
            raise NotReadyError(_WHAT_TO_UPLOAD.format(ref=ref, name=ref.name, version=ref.version))
        found = await self.inspect(self.artifact_of(record))
        committed = await self._writer.mutate(
            lambda draft: draft.commit(ref, found.inputs, found.outputs, found.nbytes, record.files)
        )
        logger.info("%s is committed: %d files, %d bytes", ref, len(record.files), found.nbytes)
        await self.lay_out(committed, LAYOUT_PATIENCE_S)
        return committed

    async def inspect(self, artifact: ArtifactFiles) -> Inspected:
        """Read an artifact's headers in a worker of its own: a hostile file harms nobody else."""
        worker = await self._workers.spawn()
        try:
            async with asyncio.timeout(_INSPECT_TIMEOUT_S):
                answer = await worker.submit(Inspect(artifact))
        except WorkerDiedError as error:
            raise CorruptError("the artifact crashed the process that examined it") from error
        except TimeoutError:
            raise ArtifactError(
                f"the artifact could not be examined within {_INSPECT_TIMEOUT_S:g} s"
            ) from None
        finally:
            worker.kill()
        return msgspec.convert(answer.facts, Inspected)

    async def discover(self, query: Query) -> Matches:
        """Raises `NoMatchError`, which says why each near miss failed; `OverloadedError` when too
        many look among too many."""
        catalog = self.catalog
        if candidates(catalog, query) <= MATCHED_AT_ONCE:
            return match(catalog, query)
        return await self._matching.do(partial(match, catalog, query))

    async def path_of(self, entry: FileEntry) -> Path:
        """Where the bytes of a version's file lie. Raises `CorruptError` if they were damaged."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._artifacts.verify, entry)
        return self._artifacts.path_of(entry.sha256)

    def artifact_of(self, record: VersionRecord) -> ArtifactFiles:
        """A version's files as a worker opens them."""
        return self.files_of(record.metadata, record.files)

    async def network(self, record: VersionRecord) -> Network | None:
        """The layer graph of a version; None where another runtime serves it."""
        if record.metadata.runtime != "numpy":
            return None
        files = self.artifact_of(record)
        paths = {label: Path(path) for label, path in files.files.items()}
        return await asyncio.to_thread(network_of, Artifact(paths, files.graph))

    async def set_alias(
        self,
        name: str,
        alias: str,
        version: str,
        expected_revision: int | None,
        traffic: Traffic = NO_SPLIT,
    ) -> AliasRecord:
        """Point `alias` at a version; with `expected_revision` only if nobody was faster."""
        check_name(alias, "alias")
        record = await self._writer.mutate(
            lambda draft: draft.set_alias(name, alias, version, expected_revision, traffic)
        )
        tell_alias(record)
        return record

    async def roll_back_alias(
        self, name: str, alias: str, expected_revision: int | None
    ) -> AliasRecord:
        """Point `alias` at the version it had before. Raises `ConflictError` without one."""
        record = await self._writer.mutate(
            lambda draft: draft.roll_back_alias(name, alias, expected_revision)
        )
        tell_alias(record)
        return record

    async def delete_alias(self, name: str, alias: str) -> None:
        await self._writer.mutate(lambda draft: draft.delete_alias(name, alias))
        logger.info("alias %s:%s is deleted", name, alias)

    async def release(self, ref: ModelRef) -> VersionRecord:
        """A candidate is a version like any other from now on."""
        record = await self._writer.mutate(lambda draft: draft.release(ref))
        logger.info("%s is released", ref)
        return record

    async def discard(self, ref: ModelRef) -> None:
        """Delete a version that was never committed. Raises `NotFoundError`, `ConflictError`."""

        def drop(draft: Draft) -> None:
            draft.version(ref).check_open()
            draft.delete_version(ref)

        await self._writer.mutate(drop)
        await self._sweep()

    async def delete(self, name: str, version: str | None = None) -> None:
        """Delete one version, or the whole model, and unload it everywhere."""
        records = (
            [self.catalog.version(name, version)]
            if version is not None
            else list(self.catalog.model(name).versions.values())
        )
        for record in records:
            self._check_unused(record.ref)
        if version is None:
            await self._writer.mutate(lambda draft: draft.delete_model(name))
            self._batching_of.pop(name, None)
        else:
            await self._writer.mutate(lambda draft: draft.delete_version(records[0].ref))
        logger.info("deleted: %s", ", ".join(str(record.ref) for record in records))
        for record in records:
            await self._let_go(record.ref)
            await self._layouts.forget(record.ref)
            self.statistics.forget(record.ref)
            self._cluster.quarantine.forget(str(record.ref))
        await self._sweep()

    async def _let_go(self, ref: ModelRef) -> None:
        """Unload a version that is deleted already, whatever comes of it."""
        try:
            await self.unload(ref)
        except AiaasError as error:
            logger.warning("%s is deleted and not unloaded everywhere: %s", ref, error.message)

    async def _sweep(self) -> None:
        """Delete the files that no version holds any more."""
        await asyncio.get_running_loop().run_in_executor(
            None, self._artifacts.sweep, lambda: set(self.catalog.digests())
        )

    def _check_unused(self, ref: ModelRef) -> None:
        for user in self.users:
            if (reason := user(ref)) is not None:
                raise ConflictError(f"{ref} is in use by {reason}; delete that first")

    async def unload(self, ref: ModelRef) -> None:
        """Free the version on every node that holds it."""
        self._servables.pop(ref, None)
        deadline = asyncio.get_running_loop().time() + _INSPECT_TIMEOUT_S
        replies = []
        for node_id in self._cluster.ring.members:
            with suppress(StoppingError):
                node = self._cluster.node(node_id)
                replies.append(node.submit(Release(str(ref)), 0, deadline).reply)
        for done in await asyncio.gather(*replies, return_exceptions=True):
            # A node that left meanwhile holds nothing any more.
            if isinstance(done, BaseException) and not isinstance(done, StoppingError):
                raise done

    def batching(self, name: str) -> BatchLimits:
        """How calls of the model `name` are batched, where no deployment says otherwise."""
        return self._batching_of.get(name, self._batching)

    def set_batching(self, name: str, limits: BatchLimits | None) -> None:
        """Batch the calls of `name` by `limits` from now on; None: by the server's settings."""
        if limits is None:
            self._batching_of.pop(name, None)
        else:
            self._batching_of[name] = limits
        for ref in [ref for ref in self._servables if ref.name == name]:
            del self._servables[ref]

    def servable_now(self, record: VersionRecord) -> Servable | None:
        """The servable form of `record`, if its files have been found sound already."""
        known = self._servables.get(record.ref)
        return known[1] if known is not None and known[0] is record else None

    async def servable(self, record: VersionRecord) -> Servable:
        """The servable form of `record`. Raises `NotReadyError`, `CorruptError`."""
        if (known := self.servable_now(record)) is not None:
            return known
        self.check_callable(record)
        await self._check_files(record)
        await self.lay_out(record)
        servable = self.form(record.metadata, record.files, record.nbytes)
        self._servables[record.ref] = (record, servable)
        return servable

    async def lay_out(self, record: VersionRecord, patience_s: float = 0.0) -> None:
        """See to it that the servable forms of a committed version are to have a layout; wait so
        long at most for it. Who gets one before is served all the same."""
        model = self.catalog.find(record.ref.name)
        if model is None or model.versions.get(record.ref.version) is not record:
            return  # it was deleted meanwhile
        making = self._layouts.begin(record.ref, self.artifact_of(record), record.nbytes)
        if making is not None and not making.done():
            making.add_done_callback(lambda _: self._servables.pop(record.ref, None))
            await asyncio.wait([making], timeout=patience_s)

    def form(self, metadata: Metadata, files: Iterable[FileEntry], nbytes: int) -> Servable:
        """A version of `metadata` and `files` as nodes see it, whether it is committed or not."""
        batching = self.batching(metadata.name)
        return Servable(
            ref=metadata.ref,
            artifact=self._layouts.of(self.files_of(metadata, files)),
            inputs=metadata.inputs,
            outputs=metadata.outputs,
            nbytes=nbytes,
            max_batch_size=batching.max_batch_size,
            max_delay_s=batching.max_delay_s,
            allow_nonfinite=metadata.allow_nonfinite,
        )

    def check_callable(self, record: VersionRecord) -> None:
        """Raise `NotReadyError` or `CorruptError` unless `record` may be called."""
        ref = record.ref
        if record.state == "corrupt":
            raise CorruptError(
                f"{ref} cannot be served: {record.reason}; delete it and commit its files anew"
            )
        if record.committed_at is None:
            raise NotReadyError(_WHAT_TO_UPLOAD.format(ref=ref, name=ref.name, version=ref.version))

    async def _check_files(self, record: VersionRecord) -> None:
        """Hash what was not hashed since the server started; a damaged version is marked so."""
        loop = asyncio.get_running_loop()
        try:
            for entry in record.files:
                await loop.run_in_executor(None, self._artifacts.verify, entry)
        except CorruptError as error:
            reason = error.message
            await self._writer.mutate(lambda draft: draft.mark_corrupt(record.ref, reason))
            raise

    def files_of(self, metadata: Metadata, entries: Iterable[FileEntry]) -> ArtifactFiles:
        """Stored files as a worker opens them."""
        files = {entry.path: str(self._artifacts.path_of(entry.sha256)) for entry in entries}
        return ArtifactFiles(
            metadata.runtime, files, metadata.graph, metadata.inputs, metadata.outputs
        )

    def stored(self) -> dict[str, int]:
        """Bytes on the disk, by what they are."""
        return {"artifacts": self._artifacts.nbytes, "layouts": self._layouts.nbytes}

    async def stop(self) -> None:
        await self._matching.stop()
        await self._layouts.stop()

    async def check_all(self) -> None:
        """Examine every committed version's files, one after the other."""
        for record in self.catalog.versions():
            if record.state != "ready":
                continue
            try:
                await self._check_files(record)
            except AiaasError as error:
                logger.error("%s will not be served: %s", record.ref, error.message)  # noqa: TRY400


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces worth a trip to a thread."""
    waiting: list[bytes] = []
    size = 0
    async for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= _GATHER:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
