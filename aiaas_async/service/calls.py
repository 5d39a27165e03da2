"""Calls: find the version, read the inputs, pick a node, wait for the answer.

Everything up to the node's mailbox is decided synchronously when the version is known to be
sound, which it is from its second call on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args

import msgspec

from aiaas_async.actors.envelope import expired
from aiaas_async.compute.frames import Array
from aiaas_async.discovery.match import by_inputs
from aiaas_async.errors import AmbiguousError, ArtifactError, InvalidError, NotFoundError
from aiaas_async.messages import TensorSpec
from aiaas_async.names import LATEST, ModelRef, clip
from aiaas_async.node.work import Call, Differentiation, Hold, Result, Servable, cost_of
from aiaas_async.registry.records import AliasRecord, VersionRecord
from aiaas_async.schedule.origin import A_CALL, SHADOW, Origin
from aiaas_async.service.cluster import Cluster
from aiaas_async.service.deployments import Deployments
from aiaas_async.service.models import Models
from aiaas_async.service.ownthreads import OwnThreads
from aiaas_async.service.seating import Seating
from aiaas_async.service.sequences import Sequences, sequence_of
from aiaas_async.service.statistics import VersionStatistics
from aiaas_async.service.streams import Part, Streams
from aiaas_async.service.traffic import Shadows, choose
from aiaas_async.wire.arrays import Batch, check_batch, read_array, read_inputs, squeeze
from aiaas_async.wire.unread import UnreadError
from aiaas_async.wire.weight import LARGE, takes_long

if TYPE_CHECKING:
    from aiaas_async.service.tracing import Tracing

T = TypeVar("T")
Wrt = Literal["nothing", "inputs", "parameters", "both"]
_THREADS: Final = 2  # of long inputs each is read in milliseconds


class CallRequest(msgspec.Struct, frozen=True, gc=False):
    """A call as it came: `inputs` are raw values; `timeout_s` is already capped."""

    inputs: Mapping[str, Any]
    model: str | None = None
    version: str = LATEST
    key: str | None = None
    timeout_s: float = 30.0
    outputs: tuple[str, ...] | None = None
    origin: Origin = A_CALL


class CallAnswer(msgspec.Struct, frozen=True, gc=False):
    """`outputs` have no batch dimension when the call was a single item. Times in microseconds; a
    `cached` answer took none, on no node."""

    model: str
    version: str
    outputs: Mapping[str, Any]
    queue_us: int
    compute_us: int
    batch_size: int
    node: str
    cached: bool = False


class Calls:
    def __init__(
        self,
        models: Models,
        cluster: Cluster,
        deployments: Deployments,
        tracing: Tracing | None = None,
    ) -> None:
        self._models, self._cluster, self._deployments = models, cluster, deployments
        self._tracing = tracing
        self.shadows = Shadows()
        self._long, self._large = OwnThreads("long inputs", _THREADS), OwnThreads("large inputs")
        seating = Seating(cluster, deployments)
        self._streams, self.sequences = Streams(seating), Sequences(seating)

    async def call(self, request: CallRequest) -> CallAnswer:
        """Raises whatever is wrong with the request, the version, or the compute."""
        started = time.perf_counter_ns()
        deadline = asyncio.get_running_loop().time() + request.timeout_s
        record, alias = self._resolve(request)
        statistics = self._models.statistics.of(record.ref)
        try:
            servable = self._models.servable_now(record) or await self._models.servable(record)
            shadow = None if alias is None or servable.stateful else alias.traffic.shadow
            lazily = shadow is None and self._goes_to_a_node(servable)
            if takes_long(request.inputs, servable.inputs):
                batch, message = await self._read_long(servable, request, deadline)
            else:
                batch, message = _read(servable, request, lazily=lazily)
            if alias is not None and shadow is not None:
                self._shadow(alias.name, shadow, batch, request.timeout_s)
            try:
                result = await self._ask(request, message, deadline)
            except UnreadError:
                batch, message = _read(servable, request)
                result = await self._ask(request, message, deadline)
            computed = time.perf_counter_ns()
            answer = _answer(servable, batch, result)
        except BaseException as error:
            statistics.failed(error, time.perf_counter_ns() - started)
            if isinstance(error, ArtifactError):  # its files may be gone
                self._check_there(record)
            raise
        _count(statistics, batch.count, result, started, computed)
        if self._tracing is not None:
            self._tracing.call(result, answer.model, answer.version, computed)
        return answer

    def _check_there(self, record: VersionRecord) -> None:
        """Raise `NotFoundError` if `record` was deleted, also if its name stands for another."""
        model = self._models.catalog.find(record.ref.name)
        there = None if model is None else model.versions.get(record.ref.version)
        if there is None or there.committed_at != record.committed_at:
            raise NotFoundError(f"{record.ref} was deleted while this call was under way")

    async def _read_long(
        self, servable: Servable, request: CallRequest, deadline: float
    ) -> tuple[Batch, Call]:
        """What `_read` gives, where that takes long. Raises `DeadlineError`."""
        large = takes_long(request.inputs, servable.inputs, LARGE)
        return await self._in_thread(partial(_read, servable, request), deadline, large=large)

    async def _in_thread(self, read: Callable[[], T], deadline: float, *, large: bool) -> T:
        """What `read` makes of inputs; large ones one at a time, since only a mailbox counts their
        bytes, and others wait for none of those. Raises `DeadlineError`."""
        threads = self._large if large else self._long
        try:
            return await threads.do_by(deadline, read)
        except TimeoutError:
            raise expired() from None

    async def stop(self) -> None:
        await self.shadows.stop()
        await self._long.stop()
        await self._large.stop()

    def _ask(
        self, request: CallRequest, message: Call, deadline: float
    ) -> Coroutine[Any, Any, Result]:
        """The answer to `message`, from where its version is served."""
        servable = message.servable
        if servable.stateful:
            return self.sequences.ask(message, deadline, request.origin)
        return self._send(request.key or servable.id, message, deadline, request.origin)

    def _send(
        self, key: str, message: Call, deadline: float, origin: Origin
    ) -> Coroutine[Any, Any, Result]:
        """By its version's deployment if it has one, else to the node for `key`."""
        deployment = self._deployments.ready(message.servable.ref)
        if deployment is not None:
            return self._deployments.call(deployment, message, deadline, origin)
        return self._cluster.ask(key, message, message.cost, deadline, origin)

    def _goes_to_a_node(self, servable: Servable) -> bool:
        """Whether a call of `servable` goes to a worker as it is."""
        return not servable.stateful and self._deployments.ready(servable.ref) is None

    async def stream(self, request: CallRequest) -> tuple[ModelRef, AsyncGenerator[Part, None]]:
        """What answers, and the parts of its answer; they lead with the batch dimension. A version
        that knows no parts gives its whole answer as one."""
        started = time.perf_counter_ns()
        deadline = asyncio.get_running_loop().time() + request.timeout_s
        record, _ = self._resolve(request)
        try:
            servable = await self._models.servable(record)
            _check_parts(servable)
            if takes_long(request.inputs, servable.inputs):
                _, message = await self._read_long(servable, request, deadline)
            else:
                _, message = _read(servable, request)
        except BaseException as error:
            self._models.statistics.of(record.ref).failed(error, time.perf_counter_ns() - started)
            raise
        parts = self._streams.parts(message, deadline, request.origin)
        return record.ref, self._counted(message, parts, started)

    async def _counted(
        self, message: Call, parts: AsyncGenerator[Part, None], started: int
    ) -> AsyncGenerator[Part, None]:
        """`parts`, and what they took since `started`."""
        statistics = self._models.statistics.of(message.servable.ref)
        first = 0
        try:
            async with aclosing(parts):
                async for part in parts:
                    first = first or time.perf_counter_ns() - started
                    yield part
        except BaseException as error:  # GeneratorExit when the caller wants no more
            statistics.failed(error, time.perf_counter_ns() - started)
            raise
        statistics.streamed(message.rows, first, time.perf_counter_ns() - started)

    def _resolve(self, request: CallRequest) -> tuple[VersionRecord, AliasRecord | None]:
        """The version that answers, and the alias that the call names, if it does."""
        catalog = self._models.catalog
        if request.model is None:
            return self._by_inputs(request), None
        model = catalog.model(request.model)
        if (exact := model.versions.get(request.version)) is not None:
            return exact, None
        alias = model.aliases.get(request.version)
        if alias is None:
            return model.resolve(request.version), None
        return catalog.version(request.model, self._side(alias, request)), alias

    def _by_inputs(self, request: CallRequest) -> VersionRecord:
        found = by_inputs(self._models.catalog, request.inputs.keys())
        if len(found) > 1:
            candidates = [str(record.ref) for record in found]
            raise AmbiguousError(
                f"{len(found)} models take exactly these inputs; name one of them in 'model': "
                + ", ".join(candidates[:10]),
                {"candidates": candidates},
            )
        return found[0]

    def _side(self, alias: AliasRecord, request: CallRequest) -> str:
        """The version of `alias` that a call goes to: one of a sequence follows those before it,
        since what is known of the sequence lies with their version."""
        if request.key or alias.traffic.canary is None:
            return choose(alias, request.key)
        specs = self._models.catalog.version(alias.name, alias.version).metadata.inputs
        return choose(alias, sequence_of(request.inputs, specs))

    def _shadow(self, model: str, version: str, batch: Batch, timeout_s: float) -> None:
        """Send a copy of a call to a version whose answer nobody waits for."""
        record = self._models.catalog.version(model, version)
        self.shadows.send(self._copy(record, batch, timeout_s))

    async def _copy(self, record: VersionRecord, batch: Batch, timeout_s: float) -> Result:
        started = time.perf_counter_ns()
        deadline = asyncio.get_running_loop().time() + timeout_s
        statistics = self._models.statistics.of(record.ref)
        try:
            servable = await self._models.servable(record)
            check_batch(batch, servable.inputs)
            message = Call(servable, batch.arrays, batch.count, servable.output_names)
            result = await self._send(servable.id, message, deadline, Origin(SHADOW))
        except BaseException as error:
            statistics.failed(error, time.perf_counter_ns() - started)
            raise
        _count(statistics, batch.count, result, started, time.perf_counter_ns())
        return result

    async def load(self, name: str, version: str, *, pin: bool, timeout_s: float) -> Result:
        """Load a version on the node its calls go to; a pinned one is never evicted. Calls of a
        deployed one go to its placement, which is loaded anyway: this copy is for when it ends."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        servable = await self._models.servable(self._models.catalog.version(name, version))
        return await self._cluster.ask(servable.id, Hold(servable, pin), 0, deadline)

    async def differentiate(
        self,
        name: str,
        version: str,
        body: Mapping[str, Any],
        wrt: Wrt,
        timeout_s: float,
        origin: Origin = A_CALL,
    ) -> tuple[VersionRecord, Result]:
        """Loss and gradients. `body` has inputs and targets, and perhaps loss and output."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        record = self._models.catalog.version(name, version)
        servable = await self._models.servable(record)
        inputs, targets = _mapping(body, "inputs"), _mapping(body, "targets")
        read = partial(_read_pairs, servable, inputs, targets)
        unknown = list(map(TensorSpec, targets))
        if takes_long(inputs, servable.inputs) or takes_long(targets, unknown):
            large = takes_long(inputs, servable.inputs, LARGE) or takes_long(
                targets, unknown, LARGE
            )
            arrays = await self._in_thread(read, deadline, large=large)
        else:
            arrays = read()
        message = Differentiation(servable, arrays, wrt, _text(body, "loss"), _text(body, "output"))
        cost = cost_of(arrays)
        return record, await self._cluster.ask(servable.id, message, cost, deadline, origin)


def _read(servable: Servable, request: CallRequest, *, lazily: bool = False) -> tuple[Batch, Call]:
    batch = read_inputs(request.inputs, servable.inputs, servable.allow_nonfinite, lazily=lazily)
    outputs = _outputs(servable, request.outputs)
    return batch, Call(servable, batch.arrays, batch.count, outputs, batch.unread)


def _read_pairs(
    servable: Servable, inputs: Mapping[str, Any], targets: Mapping[str, Any]
) -> dict[str, Array]:
    """What `Differentiation` has for arrays."""
    batch = read_inputs(inputs, servable.inputs, servable.allow_nonfinite)
    arrays: dict[str, Array] = {f"inputs/{n}": a for n, a in batch.arrays.items()}
    for target, raw in targets.items():
        value = read_array(raw, f"target {clip(target)}")
        arrays[f"targets/{target}"] = value if batch.batched else value[None]
    return arrays


def _count(
    statistics: VersionStatistics, rows: int, result: Result, started: int, computed: int
) -> None:
    """Count a call that succeeded: nanoseconds when it `started`, and when `result` was there."""
    ended = time.perf_counter_ns()
    queue, infer = int(result.queue_s * 1e9), int(result.compute_s * 1e9)
    statistics.succeeded(rows, result.batch_size, ended - started, queue, infer, ended - computed)


def _answer(servable: Servable, batch: Batch, result: Result) -> CallAnswer:
    return CallAnswer(
        model=servable.ref.name,
        version=servable.ref.version,
        outputs=squeeze(result.arrays, batched=batch.batched),
        queue_us=round(result.queue_s * 1e6),
        compute_us=round(result.compute_s * 1e6),
        batch_size=result.batch_size,
        node=result.node,
        cached=result.cached,
    )


def _check_parts(servable: Servable) -> None:
    """Raises `InvalidError` for a version that gives no answers in parts."""
    if servable.stateful:
        raise InvalidError(f"{servable.id} keeps sequences: it gives no answers in parts")


def _outputs(servable: Servable, asked: tuple[str, ...] | None) -> tuple[str, ...]:
    known = servable.output_names
    if asked is None or asked == known:
        return known
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise InvalidError(f"{servable.id} has no output {clip(unknown[0])}; it has {list(known)}")
    return asked or known


def check_wrt(value: object) -> Wrt:
    """`wrt` of a gradient request; raises `InvalidError`."""
    if value not in get_args(Wrt)[1:]:
        raise InvalidError(f"wrt must be inputs, parameters or both, got {clip(value)}")
    return value  # type: ignore[return-value]


def _mapping(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = body.get(key)
    if not isinstance(value, Mapping) or not value:
        raise InvalidError(f"'{key}' must be an object of name → value, got {clip(value)}")
    return value


def _text(body: Mapping[str, Any], key: str) -> str | None:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidError(f"'{key}' must be a string, got {clip(value)}")
    return value
