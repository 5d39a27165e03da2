"""Training: a request becomes a job, the job a worker's task, its result a version.

The worker is one of the job's own, of lower priority than those that serve. What it wrote is
committed with its lineage, and the alias moved, in one registry transaction.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from aiaas_async.compute.base import WorkerSource
from aiaas_async.compute.jobs import ArtifactFiles, Train
from aiaas_async.errors import (
    ConflictError,
    InvalidError,
    WorkerDiedError,
)
from aiaas_async.formats.graphfile import FILE_NAME as GRAPH_FILE
from aiaas_async.jobs.board import JobBoard, Running
from aiaas_async.messages import Metadata, TensorSpec, parse_metadata
from aiaas_async.names import LATEST, check_name, check_version, clip
from aiaas_async.nn.network import Network
from aiaas_async.registry.records import VersionRecord
from aiaas_async.registry.signature import agreed
from aiaas_async.service.cluster import Cluster
from aiaas_async.service.datasets import Datasets
from aiaas_async.service.distributed import CrewRun
from aiaas_async.service.models import Models, Promotion
from aiaas_async.training.distributed import check_divisible
from aiaas_async.training.gate import parse_gate
from aiaas_async.training.plan import TrainingPlan, parse_plan, render_plan

logger = logging.getLogger(__name__)

KIND = "train"
MAX_DEATHS = 3
_LONGEST_RUN_S = 7 * 86_400.0
_RESULT = ("metrics", "epochs", "steps", "samples", "history", "nodes", "verified")


class RegisterAs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Point `alias` at the result if it passes `gate` and nobody moved the alias meanwhile;
    else the version stays a candidate."""

    alias: str
    gate: str | None = None


class TrainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to train, on what, as what: a `graph` from the start; a `parent` version to go on
    from; or both, a graph whose parameters are the parent's where it has them."""

    model: str
    version: str
    dataset: str
    graph: dict[str, Any] | None = None
    parent: str | None = None
    plan: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    alias: str | None = None
    register_as: RegisterAs | None = None


class Training:
    """The runner of jobs of kind "train"; `folder` holds one folder for each."""

    def __init__(
        self,
        models: Models,
        datasets: Datasets,
        cluster: Cluster,
        workers: WorkerSource,
        folder: Path,
        nice: int,
    ) -> None:
        self._models, self._datasets, self._cluster = models, datasets, cluster
        self._workers, self._folder, self._nice = workers, folder, nice

    async def start(self, board: JobBoard, body: Mapping[str, Any]) -> Running:
        """Check everything that can be checked now, and accept the job.

        Raises `InvalidError`, `NotFoundError`, `ConflictError`.
        """
        request = parse_request(body)
        network, parent = await self._start_of(request)
        parsed = parse_plan(request.plan)
        if isinstance(network, Network) and parsed.trainable is not None:
            network = network.training_only(parsed.trainable)
        nodes = self._nodes_for(parsed, network)
        plan = {**render_plan(parsed), "nodes": len(nodes) or None}
        alias = _alias_of(request, parsed)
        metadata = _metadata(request, network.inputs, network.outputs, {}, None)
        self._check_free(metadata, alias)
        source = await self._datasets.source(request.dataset)
        if not len(source):
            raise InvalidError(f"data set {request.dataset} is empty; put items into it first")
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

    def _nodes_for(self, plan: TrainingPlan, network: Network | Metadata) -> list[str]:
        """The nodes of a distributed run: as many of the ring's as asked, or all."""
        if plan.method != "distributed":
            return []
        members = list(self._cluster.ring.members)
        wanted = len(members) if plan.nodes is None else plan.nodes
        if wanted > len(members):
            raise InvalidError(
                f"plan.nodes asks for {wanted} nodes; there are {len(members)}: POST /nodes adds "
                "one"
            )
        if isinstance(network, Network):
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

    async def _start_of(
        self, request: TrainRequest
    ) -> tuple[Network | Metadata, VersionRecord | None]:
        """What says the signature, and the parent the job goes on from, if any."""
        network = None if request.graph is None else Network.from_spec(request.graph)
        if request.parent is None:
            return network or Network.from_spec({}), None
        name, _, version = request.parent.partition(":")
        record = self._models.catalog.version(name, version or LATEST)
        await self._models.servable(record)
        return network or record.metadata, record

    async def run(self, job: Running) -> dict[str, Any]:
        """Train, then commit. Resumes from the checkpoint of an earlier run of the same job."""
        request, folder = _request_of(job.record.request), self._folder / job.record.id
        parent = self._parent_of(job.record.request)
        artifact = self._artifact(request, parent)
        facts = await self._train(job, artifact, folder)
        lineage = _lineage(job, facts)
        files = {label: folder / name for label, name in facts["files"].items()}
        network = await asyncio.to_thread(_network_in, files)
        metadata = _metadata(request, network.inputs, network.outputs, facts["metrics"], lineage)
        promotion = _promotion(request, job.record.request, facts["metrics"])
        record, reason = await self._models.adopt(metadata, files, promotion)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return {
            "model": record.ref.name,
            "version": record.ref.version,
            "alias": promotion.alias if promotion and reason is None else None,
            **({} if request.register_as is None else _promoted(reason)),
            "digest": record.digest,
            **{name: facts[name] for name in _RESULT if name in facts},
        }

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

    async def _train(self, job: Running, artifact: ArtifactFiles, folder: Path) -> dict[str, Any]:
        """Run the task in a worker; one that dies is replaced and goes on from its checkpoint."""
        request = job.record.request
        task = {
            "plan": request["plan"],
            "data": request["_manifest"],
            "start": _start(request),
        }
        for attempt in range(1, MAX_DEATHS + 1):
            try:
                if nodes := request.get("_nodes"):
                    run = CrewRun(job, nodes, request["plan"]["step_timeout_s"])
                    return await run.run(self._workers, self._nice, artifact, task, str(folder))
                return await self._attempt(job, Train(artifact, task, str(folder)))
            except WorkerDiedError as error:
                logger.warning("job %s: %s (%d)", job.record.id, error.message, attempt)
                if job.cancel.is_set():
                    raise
                if attempt == MAX_DEATHS:
                    raise WorkerDiedError(
                        f"the training process died {MAX_DEATHS} times, last with: "
                        f"{error.message}. If it ran out of memory, a smaller plan.batch_size or "
                        "graph helps"
                    ) from error
                job.events.add("progress", {"restarted": attempt})
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _attempt(self, job: Running, order: Train) -> dict[str, Any]:
        worker = await self._workers.spawn(self._nice)
        cancelled = asyncio.create_task(job.cancel.wait())
        try:
            answer = worker.submit(order, (), lambda facts: job.events.add("progress", facts))
            waited: list[asyncio.Future[Any]] = [answer, cancelled]
            # A run of a week is stopped like a cancelled one: at a checkpoint.
            await asyncio.wait(waited, timeout=_LONGEST_RUN_S, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                worker.request_stop()
            return (await answer).facts
        finally:
            cancelled.cancel()
            worker.kill()

    def forget(self, job_id: str) -> None:
        shutil.rmtree(self._folder / job_id, ignore_errors=True)


def trained_on(board: JobBoard, dataset: str) -> str | None:
    """Which training job, waiting or running, reads the files of `dataset` by their names."""
    for job in board.all():
        record = job.record
        if record.kind == KIND and not record.over and record.request["dataset"] == dataset:
            return f"training job {record.id}"
    return None


def parse_request(body: Mapping[str, Any]) -> TrainRequest:
    """Raises `InvalidError` naming the field at fault."""
    for field in body:
        if field not in TrainRequest.__struct_fields__:
            known = ", ".join(TrainRequest.__struct_fields__)
            raise InvalidError(f"a training request has no field {clip(field)}; fields: {known}")
    try:
        request = msgspec.convert(dict(body), TrainRequest, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidError(f"training request: {error}") from error
    check_name(request.model, "model name")
    check_version(request.version)
    if request.alias is not None:
        _check_alias(request.alias)
    if request.graph is None and request.parent is None:
        raise InvalidError(
            "give 'graph', a layer graph to train from the start, or 'parent', a version "
            "(name:version) to train further, or both: the parent's weights in a new graph"
        )
    return request


def _check_alias(alias: str) -> None:
    """Now, not when the training is done."""
    check_name(alias, "alias")
    if alias == LATEST:
        raise InvalidError("the alias 'latest' is computed; choose another")


def _request_of(facts: Mapping[str, Any]) -> TrainRequest:
    return msgspec.convert(
        {name: facts[name] for name in TrainRequest.__struct_fields__ if name in facts},
        TrainRequest,
    )


def _metadata(
    request: TrainRequest,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    metrics: Mapping[str, float],
    lineage: dict[str, Any] | None,
) -> Metadata:
    """The new version's metadata: what the user gave, completed by what came out."""
    fields: dict[str, Any] = {
        "inputs": msgspec.to_builtins(inputs),
        "outputs": msgspec.to_builtins(outputs),
        **request.metadata,
        "name": request.model,
        "version": request.version,
        "runtime": "numpy",
        "lineage": lineage,
    }
    given = parse_metadata(fields)
    return msgspec.structs.replace(given, metrics={**given.metrics, **metrics})


def _alias_of(request: TrainRequest, plan: TrainingPlan) -> str | None:
    """The alias that the result may take, with its gate checked."""
    asked = request.register_as
    if asked is None:
        return request.alias
    if request.alias is not None:
        raise InvalidError("give either 'alias' or 'register_as', which may have a gate")
    _check_alias(asked.alias)
    if asked.gate is not None:
        parse_gate(asked.gate, plan.validation)
    return asked.alias


def _promotion(
    request: TrainRequest, facts: Mapping[str, Any], metrics: Mapping[str, float]
) -> Promotion | None:
    """Which alias shall move, and why it must not after all."""
    asked = request.register_as
    if asked is None:
        return None if request.alias is None else Promotion(request.alias)
    refusal = None
    if asked.gate is not None:
        refusal = parse_gate(asked.gate, facts["plan"]["validation"]).refusal(metrics)
    return Promotion(asked.alias, facts["_revision"], refusal)


def _promoted(reason: str | None) -> dict[str, Any]:
    return {"promoted": reason is None, **({} if reason is None else {"reason": reason})}


def _lineage(job: Running, facts: Mapping[str, Any]) -> dict[str, Any]:
    request = job.record.request
    return {
        "job": job.record.id,
        "dataset": request["dataset"],
        "dataset_digest": request["dataset_digest"],
        "parent": request["parent"],
        "method": request["plan"]["method"],
        "seed": request["plan"]["seed"],
        "plan": request["plan"],
        "epochs": facts["epochs"],
        "steps": facts["steps"],
        "samples": facts["samples"],
        "metrics": facts["metrics"],
    }


def _start(request: Mapping[str, Any]) -> str:
    """Where a task's first parameters come from (`training/task.py`)."""
    if request["parent"] is None:
        return "graph"
    return "weights" if request.get("graph") is None else "transfer"


def _network_in(files: Mapping[str, Path]) -> Network:
    spec: dict[str, Any] = msgspec.json.decode(files[GRAPH_FILE].read_bytes())
    return Network.from_spec(spec)
