"""From nothing to a running platform, and back: shutdown is construction reversed."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from aiaas_async import __version__
from aiaas_async.compute.base import WorkerSource
from aiaas_async.config import Settings
from aiaas_async.data.library import Library
from aiaas_async.errors import InvalidError, StorageError
from aiaas_async.jobs.board import JobBoard, Save
from aiaas_async.jobs.record import JobRecord
from aiaas_async.node.cores import Cores
from aiaas_async.node.limits import NodeLimits
from aiaas_async.node.node import Node
from aiaas_async.node.quarantine import Quarantine
from aiaas_async.registry.artifacts import ArtifactStore
from aiaas_async.registry.draft import Draft
from aiaas_async.registry.lock import DataDirectoryLock
from aiaas_async.registry.writer import RegistryWriter
from aiaas_async.service.adoption import Adoption
from aiaas_async.service.batch import BATCH_KIND, BatchInference, jobs_on
from aiaas_async.service.calls import Calls
from aiaas_async.service.cluster import Cluster
from aiaas_async.service.datasets import Datasets
from aiaas_async.service.deployments import Deployments
from aiaas_async.service.layouts import Layouts
from aiaas_async.service.loopwatch import LoopWatch
from aiaas_async.service.membership import Membership
from aiaas_async.service.models import BatchLimits, Models
from aiaas_async.service.ownruntimes import check_runtimes
from aiaas_async.service.platform import Platform
from aiaas_async.service.readers import Readers
from aiaas_async.service.roster import members_at_start, remember
from aiaas_async.service.training import KIND, Training, Workshop, trained_on

if TYPE_CHECKING:
    from aiaas_async.service.tracing import Tracing

logger = logging.getLogger(__name__)

NODES_FILE = "nodes.json"
_MIB = 1 << 20
_LEAST_PATIENCE_S = 1.0  # what a short timeout_ms cuts off is often a first call, still cold


@asynccontextmanager
async def running_platform(settings: Settings, workers: WorkerSource) -> AsyncIterator[Platform]:
    """The platform of `settings`, with `workers`, which it closes in the end.

    Raises `ConflictError` when another server uses the data directory, `StorageError` when it
    cannot be used at all.
    """
    async with AsyncExitStack() as stack:
        stack.push_async_callback(workers.close)
        tracing = _tracing(settings)
        if tracing is not None:
            stack.push_async_callback(asyncio.to_thread, tracing.close)
        await check_runtimes(settings.runtimes, workers, settings.load_timeout_s)
        data_dir = _data_directory(settings)
        stack.enter_context(DataDirectoryLock(data_dir))
        registry = await RegistryWriter.open(data_dir / "registry.db")
        stack.push_async_callback(registry.close)
        for damage in registry.damage:
            logger.error("registry: %s", damage)
        cores = _cores(settings)
        roster = data_dir / NODES_FILE
        cluster = await _start_cluster(settings, workers, registry.secret, roster, cores)
        stack.push_async_callback(cluster.stop, settings.grace_s)
        workshop = Workshop(workers, data_dir / "jobs", settings.job_nice, cores)
        platform = await _assemble(settings, registry, cluster, workshop, data_dir, tracing)
        stack.push_async_callback(platform.deployments.stop, settings.grace_s)
        stack.push_async_callback(platform.calls.stop)
        stack.push_async_callback(platform.readers.stop)
        stack.push_async_callback(platform.models.stop)
        stack.push_async_callback(platform.datasets.stop)
        stack.push_async_callback(platform.membership.stop)
        stack.push_async_callback(platform.jobs.stop, settings.grace_s)
        platform.loop.start()
        stack.callback(platform.loop.stop)
        check = asyncio.create_task(platform.models.check_all(), name="check of the artifacts")
        stack.push_async_callback(_cancel, check)
        await platform.deployments.recall()
        placing = asyncio.create_task(platform.deployments.restore(), name="deployments")
        stack.push_async_callback(_cancel, placing)
        stack.callback(platform.stopping.set)
        yield platform


def _tracing(settings: Settings) -> Tracing | None:
    """None unless the settings name an address for traces. Raises `InvalidError`."""
    if not settings.trace_endpoint:
        return None
    try:
        from aiaas_async.service import tracing  # noqa: PLC0415 - an extra, and only when asked for
    except ImportError as error:
        raise InvalidError(
            "trace_endpoint needs OpenTelemetry: pip install 'aiaas-async[otel]', or leave it empty"
        ) from error
    return tracing.Tracing(settings.trace_endpoint, settings.trace_ratio, __version__)


def _data_directory(settings: Settings) -> Path:
    path = settings.folder
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"the data directory {settings.data_dir} cannot be made: {error.strerror}"
        ) from error
    return path


def _cores(settings: Settings) -> Cores:
    """What nodes may lend each other. Where address space is short BLAS could not start a thread,
    and would end the process."""
    lend = settings.lend_cores and not settings.worker_memory_mb
    return Cores(len(os.sched_getaffinity(0)) if lend else 0, settings.worker_threads)


async def _start_cluster(
    settings: Settings, workers: WorkerSource, secret: bytes, roster: Path, cores: Cores
) -> Cluster:
    limits = NodeLimits(
        memory=settings.node_memory_mb * _MIB,
        mailbox_items=settings.mailbox_items,
        mailbox_bytes=settings.mailbox_mb * _MIB,
        load_timeout_s=settings.load_timeout_s,
        patience_s=max(_LEAST_PATIENCE_S, settings.timeout_ms / 1000),
        schedule=settings.schedule,
        tenants=settings.tenants,
    )
    quarantine = Quarantine()
    cluster = Cluster(
        lambda node_id: Node(node_id, workers, limits, quarantine, cores),
        secret,
        quarantine,
        load_factor=settings.load_factor,
        points_per_node=settings.points_per_node,
    )
    await cluster.start(members_at_start(roster, settings.nodes, settings.node_count))
    return cluster


async def _assemble(
    settings: Settings,
    registry: RegistryWriter,
    cluster: Cluster,
    workshop: Workshop,
    data_dir: Path,
    tracing: Tracing | None,
) -> Platform:
    artifacts = await asyncio.to_thread(
        ArtifactStore, data_dir / "artifacts", settings.storage_mb * _MIB
    )
    library = await asyncio.to_thread(Library, data_dir / "datasets", cluster.ring)
    for name, reason in library.damaged.items():
        logger.error("data set in %s is damaged: %s", name, reason)
    batching = BatchLimits(settings.max_batch_size, settings.max_delay_ms / 1000)
    workers = workshop.workers
    # Where address space is short there is none for a second map of the weights.
    wanted = not settings.worker_memory_mb
    layouts = await asyncio.to_thread(Layouts, data_dir / "layouts", workers, wanted=wanted)
    models = Models(registry, artifacts, workers, cluster, batching, layouts)
    datasets = Datasets(library)
    deployments = Deployments(models, cluster, data_dir / "deployments.json")
    adoption = Adoption(models, registry, artifacts, cluster)
    training = Training(models, datasets, cluster, adoption, workshop)
    batch = BatchInference(models, datasets, cluster, deployments)
    remembered = partial(remember, data_dir / NODES_FILE, settings.nodes)
    jobs = JobBoard({KIND: training, BATCH_KIND: batch}, _saver(registry), settings.running_jobs)
    datasets.readers.append(partial(trained_on, jobs))
    datasets.users.append(partial(jobs_on, jobs))
    jobs.restore(_records(registry.jobs()))
    return Platform(
        settings=settings,
        registry=registry,
        cluster=cluster,
        membership=Membership(cluster, datasets, deployments, remembered, settings.grace_s),
        models=models,
        calls=Calls(models, cluster, deployments, tracing),
        deployments=deployments,
        datasets=datasets,
        training=training,
        batch=batch,
        jobs=jobs,
        readers=Readers(workers, settings.node_count),
        loop=LoopWatch(settings.stall_ms / 1000),
        tracing=tracing,
    )


def _saver(registry: RegistryWriter) -> Save:
    async def save(records: Sequence[JobRecord], forgotten: Sequence[str]) -> None:
        def change(draft: Draft) -> None:
            for record in records:
                draft.save_job(record.id, msgspec.json.encode(record))
            for job_id in forgotten:
                draft.delete_job(job_id)

        await registry.mutate(change)

    return save


def _records(stored: Sequence[bytes]) -> list[JobRecord]:
    found = []
    for raw in stored:
        try:
            found.append(msgspec.json.decode(raw, type=JobRecord))
        except msgspec.MsgspecError as error:
            logger.error("a job's record cannot be read and is left alone: %s", error)  # noqa: TRY400
    return found


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
