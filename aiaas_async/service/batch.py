"""Batch inference: a model over a whole data set, as a job.

Everything that can be checked is checked before the job is accepted. Its results go into a data
set of their own under the items' keys, each exactly once: whatever interrupts it, the next run
looks at which keys are there and does the others, and those put since the job was accepted: their
results may be of items that they replaced.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Annotated, Any, Final

import msgspec

from aiaas_async.data.source import Source
from aiaas_async.errors import (
    AiaasError,
    CancelledJobError,
    ConflictError,
    DeadlineError,
    InvalidError,
    NotFoundError,
    StoppingError,
)
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.jobs.board import JobBoard, Running
from aiaas_async.jobs.record import JobRecord
from aiaas_async.names import LATEST, check_name, clip
from aiaas_async.node.work import Servable
from aiaas_async.schedule.assign import ASSIGNMENTS
from aiaas_async.schedule.origin import BATCH, TENANT, Origin
from aiaas_async.service.asked import read_asked
from aiaas_async.service.batchdata import Reader, Sink
from aiaas_async.service.batchrun import BatchRun
from aiaas_async.service.batchwiring import result_columns, wire
from aiaas_async.service.batchwork import Terms, Work
from aiaas_async.service.cluster import Cluster
from aiaas_async.service.datasets import Datasets
from aiaas_async.service.deployments import Deployments
from aiaas_async.service.models import Models

BATCH_KIND: Final = "batch"
# Below calls, which have 0, where the nodes' schedule goes by priority.
DEFAULT_PRIORITY: Final = -1
_RESTORE_S: Final = 600.0


class BatchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which model over which data set; `inputs` says which column goes to which input where the
    names differ. `timeout_s` is for the whole job."""

    model: str
    dataset: str
    version: str = LATEST
    output_dataset: str | None = None
    inputs: dict[str, str] = {}
    outputs: tuple[str, ...] | None = None
    assignment: str = "data_local"
    task_items: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = None
    priority: Annotated[int, msgspec.Meta(ge=-100, le=100)] = DEFAULT_PRIORITY
    tenant: str = TENANT
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=30 * 86_400)] | None = None


class BatchInference:
    """The runner of jobs of kind "batch"."""

    def __init__(
        self, models: Models, datasets: Datasets, cluster: Cluster, deployments: Deployments
    ) -> None:
        self._models, self._datasets, self._cluster = models, datasets, cluster
        self._deployments = deployments
        # Of jobs that come to the board: the data set of the results, and the one that is read.
        self._claimed: dict[str, str] = {}
        datasets.users.append(self._claims_on)

    async def start(self, board: JobBoard, body: Mapping[str, Any]) -> Running:
        """Check everything that can be checked now, and accept the job.

        Raises `InvalidError`, `InputError`, `NotFoundError`, `ConflictError`.
        """
        request = parse_batch(body)
        record = self._models.catalog.version(request.model, request.version)
        servable = await self._models.servable(record)
        source = await self._datasets.source(request.dataset)
        if not len(source):
            raise InvalidError(f"data set {request.dataset} is empty; put items into it first")
        wire(source.columns, servable.inputs, request.inputs)
        columns = result_columns(servable.outputs, request.outputs)
        output = request.output_dataset or f"batch-{secrets.token_hex(6)}"
        facts = {
            **msgspec.to_builtins(request),
            "version": servable.ref.version,
            "outputs": list(columns),
            "output_dataset": output,
            "items": len(source),
            "_newest": int(source.seqs[-1]),
            "_dataset_id": await self._datasets.identity(request.dataset),
            "_digest": record.digest,
            "_end_at": None if request.timeout_s is None else time.time() + request.timeout_s,
        }
        return await board.accepting.do(self._accept(board, output, columns, facts))

    @contextmanager
    def _claim(self, board: JobBoard, output: str, dataset: str) -> Iterator[None]:
        """Until a job is on the board: no other one may write to `output`, and neither that nor
        `dataset` is deleted. Raises `ConflictError` where another one writes."""
        self._check_unclaimed(board, output)
        self._claimed[output] = dataset
        try:
            yield
        finally:
            del self._claimed[output]

    def _claims_on(self, dataset: str) -> list[str]:
        jobs = [claim for claim in self._claimed.items() if dataset in claim]
        return ["a batch job that is being accepted"] * len(jobs)

    def _check_unclaimed(self, board: JobBoard, output: str) -> None:
        for job in board.all():
            record = job.record
            if record.kind != BATCH_KIND or record.over:
                continue
            if record.request["output_dataset"] == output:
                raise ConflictError(f"job {record.id} writes to data set {output}; name another")
        if output in self._claimed:
            raise ConflictError(f"another job writes to data set {output}; name another")

    async def _accept(
        self,
        board: JobBoard,
        output: str,
        columns: Mapping[str, Any],
        facts: dict[str, Any],
    ) -> Running:
        created = False
        try:
            with self._claim(board, output, facts["dataset"]):
                created = await self._declare(output, columns)
                facts["_output_id"] = await self._datasets.identity(output)
                return await board.submit(BATCH_KIND, facts)
        except Exception:
            if created:
                await self._take_back(output)
            raise

    async def _declare(self, output: str, columns: Mapping[str, Any]) -> bool:
        """Whether the data set of the results is new; it is empty, or raises `ConflictError`."""
        _, created = await self._datasets.declare(output, {"columns": columns})
        if not created and len(await self._datasets.source(output)):
            raise ConflictError(
                f"data set {output} has items already, and results would mix with them; name "
                "another, or delete it first"
            )
        return created

    async def _take_back(self, output: str) -> None:
        """Delete a result data set that no job will fill."""
        with suppress(ConflictError, NotFoundError):  # others use it already, or deleted it
            await self._datasets.delete(output, only_empty=True)

    @asynccontextmanager
    async def resuming(self, board: JobBoard, record: JobRecord) -> AsyncIterator[dict[str, Any]]:
        """What `record` asked for: its results are its checkpoint. Its time begins anew.

        Raises what `_check_same` does, and `ConflictError` when another job writes to its results.
        """
        request = dict(record.request)
        with self._claim(board, request["output_dataset"], request["dataset"]):
            await self._check_same(record)
            if request["timeout_s"] is not None:
                request["_end_at"] = time.time() + request["timeout_s"]
            yield request

    async def _check_same(self, record: JobRecord) -> None:
        """Refuse to mix what `record` has computed with results of something else.

        Raises `ConflictError` when its results are gone, or the model, the data set or the one of
        its results was made anew; `NotFoundError` when the model or the data set is gone. Jobs of
        earlier releases do not know what they began with.
        """
        request = record.request
        version = self._models.catalog.version(request["model"], request["version"])
        if request.get("_digest") not in (None, version.digest):
            raise _another(str(version.ref), record, "registered anew")
        dataset, output = request["dataset"], request["output_dataset"]
        if request.get("_dataset_id") not in (None, await self._datasets.identity(dataset)):
            raise _another(f"data set {dataset}", record, "made anew")
        try:
            results = await self._datasets.identity(output)
        except NotFoundError:
            raise ConflictError(
                f"data set {output}, which held the results of job {record.id}, is deleted; start "
                "it anew"
            ) from None
        if request.get("_output_id") not in (None, results):
            raise _another(f"data set {output}, where the results are,", record, "made anew")

    async def run(self, job: Running) -> dict[str, Any]:
        """Do what has no result yet, and tell a failure with where the results of the rest are.
        Resumes where an earlier run of the same job ended. Raises what `_check_same` does."""
        await self._check_same(job.record)
        try:
            return await self._run(job)
        except AiaasError as error:
            await self._tell_results(error, job.record.request["output_dataset"])
            raise

    async def _tell_results(self, error: AiaasError, output: str) -> None:
        """Add to `error` what there is in data set `output`, which is partial now."""
        try:
            count = len(await self._datasets.source(output))
        except AiaasError:  # deleted, or damaged: then that is what ended the job
            return
        held = f"{count} results are in data set {output}" if count else f"{output} is empty"
        error.details |= {"output_dataset": output, "stored": count}
        error.message += f"; {held}: resume the job to have it filled, or delete it"

    async def _run(self, job: Running) -> dict[str, Any]:
        request = job.record.request
        await self._placed()
        record = self._models.catalog.version(request["model"], request["version"])
        servable = await self._models.servable(record)
        source = await self._datasets.source(request["dataset"])
        done = await self._datasets.source(request["output_dataset"])
        wiring = wire(source.columns, servable.inputs, request["inputs"])
        nodes = self._cluster.ring.members
        newest = request.get("_newest")  # jobs of earlier releases have none
        reader = await asyncio.to_thread(Reader, source, done, wiring, nodes, newest)
        sink = Sink(self._datasets, request["output_dataset"], reader)
        work = Work(reader, self._deployments, _terms(request, servable, source, wiring))
        run = BatchRun(self._cluster, reader, work, sink, job.events)
        await _until_cancelled(job, run)
        return {
            "model": servable.ref.name,
            "version": servable.ref.version,
            "dataset": request["dataset"],
            "output_dataset": request["output_dataset"],
            "left_out": [s.name for s in servable.outputs if s.name not in request["outputs"]],
            **run.facts(),
        }

    async def _placed(self) -> None:
        """Wait until what was deployed is placed again: a version may fit only in parts."""
        try:
            async with asyncio.timeout(_RESTORE_S):
                await self._deployments.restored.wait()
        except TimeoutError:
            raise StoppingError(
                "the deployments of the last start are still being placed; start the job again"
            ) from None

    def forget(self, job_id: str) -> None:
        """The results are the user's; a job leaves nothing else."""


def _another(what: str, record: JobRecord, how: str) -> ConflictError:
    return ConflictError(
        f"{what} is another one than job {record.id} began with: it was deleted and {how}; start "
        "a new job"
    )


def jobs_on(board: JobBoard, dataset: str) -> list[str]:
    """The jobs of any kind, waiting or running, that read `dataset` or write to it."""
    return [
        f"{job.record.kind} job {job.record.id}"
        for job in board.all()
        if not job.record.over
        and dataset in (job.record.request.get(each) for each in ("dataset", "output_dataset"))
    ]


def parse_batch(body: Mapping[str, Any]) -> BatchRequest:
    """Raises `InvalidError` naming the field at fault."""
    request = read_asked(body, BatchRequest, "batch request")
    check_name(request.tenant, "tenant")
    if request.output_dataset is not None:
        check_name(request.output_dataset, "data set name")
    if request.output_dataset == request.dataset:
        raise InvalidError("results cannot go into the data set they are computed from")
    if request.assignment not in ASSIGNMENTS:
        known = ", ".join(ASSIGNMENTS)
        raise InvalidError(f"no assignment is called {clip(request.assignment)}; known: {known}")
    return request


def _terms(
    request: Mapping[str, Any], servable: Servable, source: Source, wiring: Mapping[str, str]
) -> Terms:
    end_at = request["_end_at"]
    loop = asyncio.get_running_loop()
    return Terms(
        servable=servable,
        outputs=tuple(request["outputs"]),
        assignment=request["assignment"],
        task_items=request["task_items"],
        item_bytes=_output_bytes(servable, request["outputs"]),
        input_bytes=_input_bytes(source, wiring),
        origin=Origin(BATCH, request.get("tenant", TENANT), request["priority"]),
        deadline=None if end_at is None else loop.time() + end_at - time.time(),
    )


def _input_bytes(source: Source, wiring: Mapping[str, str]) -> int:
    return sum(source.columns[column].nbytes for column in wiring.values())


def _output_bytes(servable: Servable, names: Sequence[str]) -> int:
    chosen = [spec for spec in servable.outputs if spec.name in names]
    return sum(math.prod(spec.shape or ()) * NUMPY[spec.dtype or ""].itemsize for spec in chosen)


async def _until_cancelled(job: Running, run: BatchRun) -> None:
    """Raises `CancelledJobError` when `job.cancel` ended it; what was computed is stored."""
    work = asyncio.create_task(run.run())
    cancelled = asyncio.create_task(job.cancel.wait())
    try:
        await asyncio.wait([work, cancelled], return_when=asyncio.FIRST_COMPLETED)
    finally:
        cancelled.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait([work])
    if work.cancelled():
        raise CancelledJobError(
            f"stopped after {run.facts()['done']} of {run.facts()['total']} items"
        )
    try:
        work.result()
    except DeadlineError as error:
        raise DeadlineError(
            f"the job's time of timeout_s was over after {run.facts()['done']} of "
            f"{run.facts()['total']} items"
        ) from error
