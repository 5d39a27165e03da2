"""Training: a request becomes a job, the job a worker's task, its result a version.

The worker is one of the job's own, of lower priority than those that serve. What it wrote is
adopted: committed with its lineage, and the alias moved, in one transaction.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from aiaas_async.compute.base import WorkerSource
from aiaas_async.compute.jobs import ArtifactFiles, Train
from aiaas_async.data.source import Source
from aiaas_async.errors import (
    ConflictError,
    InvalidError,
    WorkerDiedError,
)
from aiaas_async.formats.graphfile import FILE_NAME as GRAPH_FILE
from aiaas_async.jobs.board import JobBoard, Running
from aiaas_async.jobs.record import JobRecord
from aiaas_async.messages import Metadata
from aiaas_async.names import LATEST, ModelRef, clip
from aiaas_async.nn.network import Network
from aiaas_async.node.cores import Cores
from aiaas_async.registry.records import VersionRecord
from aiaas_async.registry.signature import agreed
from aiaas_async.service.adoption import Adoption
from aiaas_async.service.alone import run_alone
from aiaas_async.service.cluster import Cluster
from aiaas_async.service.datasets import Datasets
from aiaas_async.service.distributed import CrewRun
from aiaas_async.service.models import Models
from aiaas_async.service.trainitems import items_of
from aiaas_async.service.trainrequest import (
    TrainRequest,
    alias_asked,
    alias_of,
    metadata_of,
    parse_request,
    request_of,
)
from aiaas_async.service.trainresult import lineage_of, promotion_of, result_of
from aiaas_async.training.checkpoint import newest_step
from aiaas_async.training.distributed import check_divisible
from aiaas_async.training.items import wire
from aiaas_async.training.plan import TrainingPlan, parse_plan, render_plan

logger = logging.getLogger(__name__)

KIND = "train"
MAX_DEATHS = 3


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where training computes: in workers of its own, `nice` to those that serve, with a folder
    for each job below `folder`."""

    workers: WorkerSource
    folder: Path
    nice: int
    cores: Cores


class Training:
    """The runner of jobs of kind "train"."""

    def __init__(
        self,
        models: Models,
        datasets: Datasets,
        cluster: Cluster,
        adoption: Adoption,
        workshop: Workshop,
    ) -> None:
        self._models, self._datasets, self._cluster = models, datasets, cluster
        self._adoption, self._workshop = adoption, workshop

    async def start(self, board: JobBoard, body: Mapping[str, Any]) -> Running:
        """Check everything that can be checked now, and accept the job.

        Raises `InvalidError`, `NotFoundError`, `ConflictError`.
        """
        request = parse_request(body)
        network, parent = await self._start_of(request)
        parsed = parse_plan(request.plan)
        if parsed.trainable is not None:
            network = network.training_only(parsed.trainable)
        nodes = self._nodes_for(parsed, network)
        plan = {**render_plan(parsed), "nodes": len(nodes) or None}
        alias = alias_of(request, parsed)
        metadata = metadata_of(request, network.inputs, network.outputs, {}, None)
        self._check_free(metadata, alias)
        source = await self._datasets.source(request.dataset)
        if not len(source):
            raise InvalidError(f"data set {request.dataset} is empty; put items into it first")
        wire(network, source.columns, parsed)
        facts = {
            **msgspec.to_builtins(request),
            "plan": plan,
            "dataset_digest": await asyncio.to_thread(source.digest),
            "parent": str(parent.ref) if parent else None,
            "_manifest": source.manifest(),
            "_nodes": nodes,
            "_revision": self._revision_of(request),
        }
        return await board.submit(KIND, facts)

    @asynccontextmanager
    async def resuming(self, board: JobBoard, record: JobRecord) -> AsyncIterator[dict[str, Any]]:
        """What `record` asked for, to go on from its last checkpoint with the same items.

        Raises `ConflictError` without a checkpoint, after a change of the data set, and when the
        version is committed; `NotFoundError` when the data set or the parent is gone.
        """
        del board  # no other job stands in the way of a training
        facts, given = record.request, request_of(record.request)
        if not await asyncio.to_thread(newest_step, self._workshop.folder / record.id):
            raise ConflictError(
                f"job {record.id} left no checkpoint to go on from: it ended before its first "
                "one; start it anew"
            )
        network, _ = await self._start_of(given)
        parsed = parse_plan(facts["plan"])
        metadata = metadata_of(given, network.inputs, network.outputs, {}, None)
        self._check_free(metadata, alias_of(given, parsed))
        source = await self._datasets.source(given.dataset)
        if await asyncio.to_thread(source.digest) != facts["dataset_digest"]:
            raise ConflictError(
                f"data set {given.dataset} has changed since job {record.id} began; its run can "
                "only go on with the same items: start it anew, from its parent or its graph"
            )
        # Compaction, or nodes that came and went, may have moved the items meanwhile.
        yield {**facts, "_manifest": source.manifest()}

    def _nodes_for(self, plan: TrainingPlan, network: Network) -> list[str]:
        """The nodes of a distributed run: as many of the ring's as asked, or all."""
        if plan.method != "distributed":
            return []
        members = list(self._cluster.ring.members)
        wanted = len(members) if plan.nodes is None else plan.nodes
        if wanted > len(members):
            raise InvalidError(
                f"plan.nodes asks for {wanted} nodes; there are {len(members)}: "
                "`aiaas nodes --join` or POST /nodes adds one"
            )
        check_divisible(network, wanted)
        return members[:wanted]

    def _revision_of(self, request: TrainRequest) -> int:
        """The revision of the alias to be moved, as it is now; 0: there is none yet."""
        model = self._models.catalog.find(request.model)
        if request.register_as is None or model is None:
            return 0
        known = model.aliases.get(request.register_as.alias)
        return 0 if known is None else known.revision

    def _check_free(self, metadata: Metadata, alias: str | None) -> None:
        """Refuse what could not be committed in the end."""
        ref = metadata.ref
        model = self._models.catalog.find(ref.name)
        known = model.versions.get(ref.version) if model is not None else None
        taken = {ref.version, *(model.versions if model is not None else ())}
        if alias in taken:
            raise ConflictError(f"{clip(alias)} cannot be an alias of {ref.name}: it is a version")
        if known is None:
            return
        if known.committed_at is not None:
            raise ConflictError(f"{ref} is committed already; train another version")
        agreed("inputs", known.registered.inputs, metadata.inputs)
        agreed("outputs", known.registered.outputs, metadata.outputs)

    async def _start_of(self, request: TrainRequest) -> tuple[Network, VersionRecord | None]:
        """The graph, given or the parent's, and the parent the job goes on from, if any."""
        given = None if request.graph is None else Network.from_spec(request.graph)
        if request.parent is None:
            return given or Network.from_spec({}), None
        name, _, version = request.parent.partition(":")
        record = self._models.catalog.version(name, version or LATEST)
        await self._models.servable(record)
        network = given or await self._models.network(record)
        if network is None:
            raise InvalidError(
                f"{record.ref} is served by the runtime {record.metadata.runtime}; only layer "
                "graphs (numpy) can be trained further"
            )
        return network, record

    async def run(self, job: Running) -> dict[str, Any]:
        """Train, then commit. Resumes from the checkpoint of an earlier run of the same job."""
        request, folder = request_of(job.record.request), self._workshop.folder / job.record.id
        if (record := self._adoption.adopted(_ref(request), job.record.id)) is not None:
            return self._adopted_before(request, record)
        parent = self._parent_of(job.record.request)
        artifact = self._artifact(request, parent)
        source = await items_of(self._datasets, job.record.id, job.record.request)
        facts = await self._train(job, artifact, folder, source)
        lineage = lineage_of(job.record, facts)
        files = {label: folder / name for label, name in facts["files"].items()}
        network = await asyncio.to_thread(_network_in, files)
        metadata = metadata_of(request, network.inputs, network.outputs, facts["metrics"], lineage)
        promotion = promotion_of(request, job.record.request, facts)
        record, reason = await self._adoption.adopt(metadata, files, promotion)
        return result_of(record, alias_asked(request), reason, facts)

    def _adopted_before(self, request: TrainRequest, record: VersionRecord) -> dict[str, Any]:
        """The result of a job that the server left between adoption and the job's record."""
        alias = alias_asked(request)
        reason = None if alias is None else self._adoption.why_not(alias, record)
        return result_of(record, alias, reason, record.metadata.lineage or {})

    def _parent_of(self, facts: Mapping[str, Any]) -> VersionRecord | None:
        if facts["parent"] is None:
            return None
        name, _, version = facts["parent"].partition(":")
        return self._models.catalog.version(name, version)

    def _artifact(self, request: TrainRequest, parent: VersionRecord | None) -> ArtifactFiles:
        if parent is None:
            return ArtifactFiles("numpy", {}, request.graph)
        found = self._models.artifact_of(parent)
        if request.graph is None:
            return found
        files = {label: path for label, path in found.files.items() if label != GRAPH_FILE}
        return ArtifactFiles(found.runtime, files, request.graph)

    async def _train(
        self, job: Running, artifact: ArtifactFiles, folder: Path, source: Source
    ) -> dict[str, Any]:
        """Run the task in a worker; one that dies is replaced and goes on from its checkpoint.

        Raises `WorkerDiedError` for a run in which `MAX_DEATHS` in a row came no further.
        """
        deaths = restarts = 0
        reached = await asyncio.to_thread(newest_step, folder)
        while True:
            try:
                return await self._attempt(job, artifact, folder, source)
            except WorkerDiedError as error:
                restarts += 1
                logger.warning("job %s: %s (%d)", job.record.id, error.message, restarts)
                if job.cancel.is_set():
                    raise
                kept = await asyncio.to_thread(newest_step, folder)
                deaths, reached = (1 if kept > reached else deaths + 1), kept
                if deaths == MAX_DEATHS:
                    raise _given_up(error, kept) from error
                job.events.add("progress", {"restarted": restarts})

    async def _attempt(
        self, job: Running, artifact: ArtifactFiles, folder: Path, source: Source
    ) -> dict[str, Any]:
        request, shop = job.record.request, self._workshop
        task = {
            "plan": request["plan"],
            "data": source.manifest(),
            "start": _start(request),
            # A restarted server has forgotten the events of the run before it.
            "recall": not job.events.progress(),
        }
        nodes = request.get("_nodes")
        with shop.cores.taken(f"{job.record.id}/{node}" for node in nodes or ("",)):
            if nodes:
                run = CrewRun(job, nodes, request["plan"]["step_timeout_s"])
                return await run.run(shop.workers, shop.nice, artifact, task, str(folder))
            order = Train(artifact, task, str(folder))
            return await run_alone(job, shop.workers, shop.nice, order)

    def forget(self, job_id: str) -> None:
        shutil.rmtree(self._workshop.folder / job_id, ignore_errors=True)


def trained_on(board: JobBoard, dataset: str) -> str | None:
    """Which training job, waiting or running, reads the files of `dataset` by their names."""
    for job in board.all():
        record = job.record
        if record.kind == KIND and not record.over and record.request["dataset"] == dataset:
            return f"training job {record.id}"
    return None


def _given_up(error: WorkerDiedError, kept: int) -> WorkerDiedError:
    since = f"after step {kept}" if kept else "before its first checkpoint"
    return WorkerDiedError(
        f"the training process died {MAX_DEATHS} times {since}, last with: {error.message}. If it "
        "ran out of memory, a smaller plan.batch_size or graph helps; if it is killed at times, "
        "a smaller plan.checkpoint_every_s or checkpoint_every_steps"
    )


def _ref(request: TrainRequest) -> ModelRef:
    return ModelRef(request.model, request.version)


def _start(request: Mapping[str, Any]) -> str:
    """Where a task's first parameters come from (`training/task.py`)."""
    if request["parent"] is None:
        return "graph"
    return "weights" if request.get("graph") is None else "transfer"


def _network_in(files: Mapping[str, Path]) -> Network:
    spec: dict[str, Any] = msgspec.json.decode(files[GRAPH_FILE].read_bytes())
    return Network.from_spec(spec)
