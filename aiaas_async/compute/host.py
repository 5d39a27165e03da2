"""What a worker does with a job: the same code in a worker process and in a test's event loop.

The host owns the loaded models. It knows runtimes and training, and nothing of sockets.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from aiaas_async.compute.frames import Array
from aiaas_async.compute.jobs import (
    WITHOUT_INPUTS,
    ArtifactFiles,
    CheckRuntime,
    CloseStream,
    Differentiate,
    Done,
    Failed,
    Infer,
    Inspect,
    Inspected,
    Job,
    LayOut,
    Load,
    NextPart,
    OpenStream,
    Progress,
    ReadInfer,
    ReadJson,
    Scan,
    StreamJob,
    Train,
    TrainPart,
    Unload,
    WriteJson,
)
from aiaas_async.compute.scan import scan
from aiaas_async.compute.slots import Slot
from aiaas_async.compute.streams import OpenStreams
from aiaas_async.compute.threads import BlasThreads
from aiaas_async.compute.warmup import read_warm_ups, run_warm_ups, without_warm_ups
from aiaas_async.errors import AiaasError, ArtifactError, InvalidError, NotFoundError
from aiaas_async.runtimes.base import Artifact, Differentiable, LaysOut, Model, Streaming
from aiaas_async.runtimes.table import NO_TARGETS, Runtimes
from aiaas_async.training.part import Place, run_part
from aiaas_async.training.task import run_task
from aiaas_async.wire.longjson import read_apart, write_arrays
from aiaas_async.wire.open_inference import Model as ProtocolModel
from aiaas_async.wire.open_inference import read_request
from aiaas_async.wire.unread import read_raw, read_texts

logger = logging.getLogger(__name__)

_MAX_DETAILS = 64 * 1024  # bytes of an error's details that are worth the line


@dataclass(frozen=True, slots=True)
class Part:
    """One answer to a job: the last one is final, those before it are progress, or a pause
    without facts, in which nothing is told."""

    facts: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    final: bool = True

    @property
    def told(self) -> bool:
        return self.final or bool(self.facts)

    def outcome(self, compute_us: int) -> Done | Progress:
        return Done(self.facts, compute_us) if self.final else Progress(self.facts)


class Host:
    """`stop_requested` is asked by long jobs between steps; `targets` are the runtimes of the
    server's configuration."""

    def __init__(
        self,
        stop_requested: Callable[[], bool] = lambda: False,
        targets: Mapping[str, str] = NO_TARGETS,
    ) -> None:
        self._models: dict[str, Model] = {}
        self._streams = OpenStreams()
        self._runtimes = Runtimes(targets)
        self._stop_requested = stop_requested
        self._blas = BlasThreads()

    def do(self, job: Job, arrays: Mapping[str, Array]) -> Iterator[Part]:
        """Carry out `job`; yields its parts. Raises `AiaasError` when the job cannot be done."""
        self._blas.use(job.threads if isinstance(job, Infer) else 0)
        try:
            yield from self._parts(job, arrays)
        finally:
            self._blas.rest()  # an answer does not wait for it

    def _parts(self, job: Job, arrays: Mapping[str, Array]) -> Iterator[Part]:
        match job:
            case Infer() | Scan():
                yield self._infer(job, arrays)
            case OpenStream() | NextPart() | CloseStream():
                yield self._step(job, arrays)
            case Differentiate():
                yield self._differentiate(job, arrays)
            case Inspect() | LayOut() | Load() | Unload():
                yield self._keep(job)
            case CheckRuntime():
                self._runtimes.check(job.runtime)
                yield Part()
            case Train():
                yield from self._train(job)
            case TrainPart():
                yield from self._train_part(job)
            case ReadJson() | ReadInfer():
                yield _read(job, arrays["body"].data)
            case WriteJson(words):
                texts = write_arrays(arrays, words)
                yield Part(arrays={n: np.frombuffer(text, np.uint8) for n, text in texts.items()})

    def _train(self, job: Train) -> Iterator[Part]:
        artifact, folder = _artifact(job.artifact), Path(job.directory)
        for facts, final in run_task(artifact, job.task, folder, self._stop_requested):
            yield Part(facts, final=final)

    def _train_part(self, job: TrainPart) -> Iterator[Part]:
        memory = Slot(os.open(job.memory, os.O_RDWR | os.O_CLOEXEC))
        try:
            place = Place(job.rank, job.nodes, memory)
            artifact, folder = _artifact(job.artifact), Path(job.directory)
            for facts, final in run_part(artifact, job.task, place, folder, self._stop_requested):
                yield Part(facts, final=final)
        finally:
            memory.close()

    def _keep(self, job: Inspect | LayOut | Load | Unload) -> Part:
        match job:
            case Load():
                return self._load(job)
            case Unload():
                self._unload(job.model)
                return Part()
            case LayOut():
                runtime = self._runtimes[job.artifact.runtime]
                made = isinstance(runtime, LaysOut) and runtime.lay_out(
                    _artifact(job.artifact), Path(job.path)
                )
                return Part({"made": made})
            case Inspect():
                artifact = _artifact(job.artifact)
                found = self._runtimes[job.artifact.runtime].inspect(artifact)
                read_warm_ups(_paths(job.artifact), found.inputs, found.outputs)
                return _inspected(
                    Inspected(found.inputs, found.outputs, found.nbytes, found.deterministic)
                )

    def _load(self, job: Load) -> Part:
        self._unload(job.model)
        model = self._runtimes[job.artifact.runtime].load(_artifact(job.artifact))
        try:
            _warm_up(model, job.artifact)
        except BaseException:
            model.close()
            raise
        self._models[job.model] = model
        return _inspected(Inspected(model.inputs, model.outputs, model.nbytes))

    def _unload(self, model_id: str) -> None:
        model = self._models.pop(model_id, None)
        self._streams.close_all(model_id)
        if model is not None:
            model.close()

    def _infer(self, job: Infer | Scan, arrays: Mapping[str, Array]) -> Part:
        model = self._model(job.model)
        if isinstance(job, Scan):
            return Part(arrays=scan(model, job, arrays.get("rows")))
        arrays, unread = _read_texts(job, arrays)
        if job.texts and len(unread) == len(job.texts[0].sizes):  # none is left to compute for
            return Part({"unread": unread})
        outputs = model.predict(arrays, job.outputs)
        for name, array in outputs.items():
            if array.ndim == 0 or array.shape[0] != job.rows:
                raise ArtifactError(
                    f"output {name!r} has shape {list(array.shape)} for a batch of {job.rows} rows"
                )
        return Part({"unread": unread} if unread else {}, outputs)

    def _step(self, job: StreamJob, arrays: Mapping[str, Array]) -> Part:
        match job:
            case OpenStream():
                self._open(job, arrays)
            case CloseStream():
                self._streams.close(job.stream)
            case NextPart():
                part = self._streams.next(job.stream)
                return Part({"end": True}) if part is None else Part(arrays=part)
        return Part()

    def _open(self, job: OpenStream, arrays: Mapping[str, Array]) -> None:
        model = self._model(job.model)
        kept = {name: array.copy() for name, array in arrays.items()}  # they outlive this job
        if isinstance(model, Streaming):
            parts = model.stream(kept, job.outputs)
        else:
            parts = iter((model.predict(kept, job.outputs),))
        self._streams.open(job.stream, job.model, parts, job.seconds)

    def _differentiate(self, job: Differentiate, arrays: Mapping[str, Array]) -> Part:
        model = self._model(job.model)
        if not isinstance(model, Differentiable):
            raise InvalidError("this version's runtime computes no losses or gradients")
        inputs, targets = _under("inputs/", arrays), _under("targets/", arrays)
        if job.wrt == "nothing":
            value = model.loss(inputs, targets, job.loss, job.output)
            return Part({"loss": value})
        value, by_input, by_parameter = model.gradient(
            inputs, targets, job.loss, job.output, job.wrt
        )
        found = {f"inputs/{name}": grad for name, grad in by_input.items()}
        found |= {f"parameters/{name}": grad for name, grad in by_parameter.items()}
        return Part({"loss": value}, found)

    def _model(self, model_id: str) -> Model:
        try:
            return self._models[model_id]
        except KeyError:
            raise NotFoundError("this worker has not loaded that version") from None


def _read_texts(job: Infer, arrays: Mapping[str, Array]) -> tuple[Mapping[str, Array], list[int]]:
    """All inputs of `job` as arrays, and the calls that have a text which could not be read."""
    found, unread = dict(arrays), set[int]()
    for texts in job.texts:
        read = read_raw if texts.raw else read_texts
        found[texts.input], wrong = read(arrays[texts.input], texts.item, texts.sizes)
        unread.update(wrong)
    return found, sorted(unread)


def _read(job: ReadJson | ReadInfer, body: memoryview) -> Part:
    if isinstance(job, ReadJson):
        return Part(arrays=read_apart(body, tensors=job.tensors))
    model = ProtocolModel(job.model, job.inputs, job.outputs)
    asked = read_request(body, job.header_length, model)
    facts = msgspec.msgpack.encode(msgspec.structs.replace(asked, inputs={}))
    return Part(arrays={**asked.inputs, WITHOUT_INPUTS: np.frombuffer(facts, np.uint8)})


def failure(error: Exception) -> Failed:
    """What is told of an error that ended a job. A defect in a runtime or a kernel goes to the
    log with its traceback; the caller gets its class."""
    if isinstance(error, AiaasError):
        return Failed(error.code, error.message, _plain(error.details))
    if isinstance(error, MemoryError):
        return Failed("memory_budget", "the model needs more memory than its worker may use")
    logger.error("a job failed in its worker", exc_info=error)
    return Failed("worker", f"the model failed while it ran ({type(error).__name__})")


def _plain(details: dict[str, Any]) -> dict[str, Any]:
    """`details` if they can travel, else nothing: an error must always arrive."""
    try:
        size = len(msgspec.msgpack.encode(details))
    except (TypeError, OverflowError, RecursionError):
        return {}
    return details if size <= _MAX_DETAILS else {}


def _under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)}


def _inspected(found: Inspected) -> Part:
    facts: dict[str, Any] = msgspec.to_builtins(found)
    return Part(facts)


def _artifact(files: ArtifactFiles) -> Artifact:
    paths = without_warm_ups(_paths(files))
    laid_out = Path(files.laid_out) if files.laid_out else None
    return Artifact(paths, files.graph, files.inputs, files.outputs, files.part, laid_out)


def _paths(files: ArtifactFiles) -> dict[str, Path]:
    return {label: Path(path) for label, path in files.files.items()}


def _warm_up(model: Model, files: ArtifactFiles) -> None:
    # The inputs of a part are not the version's; whoever places parts warms them together.
    if files.part is None:
        run_warm_ups(model, read_warm_ups(_paths(files), model.inputs, model.outputs))
