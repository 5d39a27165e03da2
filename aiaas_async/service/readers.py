"""Readers: processes that turn long JSON bodies into arrays, beside the event loop and the nodes,
and the arrays of long answers into JSON. What is long, but no JSON, a thread reads.

They are workers like any node's, but their jobs need no model. The first job starts them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from aiaas_async.compute.base import Answer, WorkerSource
from aiaas_async.compute.frames import Array, Pieces, whole
from aiaas_async.compute.jobs import WITHOUT_INPUTS, ReadInfer, ReadJson, WriteJson
from aiaas_async.compute.slots import JOBS_UNDER_WAY
from aiaas_async.errors import OverloadedError, StoppingError, WorkerDiedError
from aiaas_async.node.seat import WorkerSeat
from aiaas_async.service.ownthreads import OwnThreads
from aiaas_async.wire.longjson import put_together, write_arrays
from aiaas_async.wire.nonfinite import OUTPUT, Words
from aiaas_async.wire.open_inference import InferRequest, Model

# At a reader, the one that it reads included.
MAX_WAITING: Final = 256
MAX_BYTES: Final = 256 << 20
# 16 MiB of JSON take 0.1 s; of numbers near the ends of a double's range, made to be slow, 7 s.
PATIENCE_S: Final = 10.0
_MOMENT_S: Final = 0.1
WRITING_PATIENCE_S: Final = 1.0  # then whoever waits writes the answer itself

T = TypeVar("T")
_Job = ReadJson | ReadInfer | WriteJson


class _Desk:
    """One reader and the places it has for bodies."""

    def __init__(self, source: WorkerSource) -> None:
        self.seat = WorkerSeat("reader of long JSON", source, lambda: None)
        self.places = asyncio.Semaphore(JOBS_UNDER_WAY)
        self.load = self.nbytes = 0

    def check(self, nbytes: int) -> None:
        """Raises `OverloadedError` where a body of `nbytes` is one too many; the first never is."""
        if self.load >= MAX_WAITING or (self.load and self.nbytes + nbytes > MAX_BYTES):
            raise OverloadedError(
                f"{self.load} long JSON bodies of {self.nbytes} bytes wait for a reader; try "
                "later, or use MessagePack",
                retry_after=1.0,
            )


class Readers:
    """At most `count` processes."""

    def __init__(self, source: WorkerSource, count: int) -> None:
        self._source, self._count = source, count
        self._desks: list[_Desk] = []
        self._opening, self._thread = asyncio.Lock(), OwnThreads("long bodies")
        self._stopped = False

    async def read_json(self, body: Sequence[bytes], *, tensors: bool = True) -> Any:
        """The value of a JSON body, in pieces; with `tensors` its long lists of numbers are numpy
        arrays.

        Raises what reading it raises, `OverloadedError` when too many bodies wait.
        """
        answer = await self._do(ReadJson(tensors), _whole(body), PATIENCE_S)
        return put_together(answer.arrays)

    async def read_infer(
        self, body: Sequence[bytes], header_length: str | None, model: Model
    ) -> InferRequest:
        """An infer request of the Open Inference Protocol, as `read_request` reads it."""
        job = ReadInfer(header_length, model.name, model.inputs, model.outputs)
        answer = await self._do(job, _whole(body), PATIENCE_S)
        inputs = dict(answer.arrays)
        rest = msgspec.msgpack.decode(inputs.pop(WITHOUT_INPUTS).tobytes(), type=InferRequest)
        return msgspec.structs.replace(rest, inputs=inputs)

    async def write_json(
        self, arrays: Mapping[str, Array], words: Words = OUTPUT
    ) -> dict[str, msgspec.Raw]:
        """Each of `arrays`, by name, as JSON has it. Raises `InputError`, in such `words`, for what
        it has no form of. An answer that is computed is not lost to readers busy with the bodies of
        others: then a thread writes it."""
        try:
            answer = await self._do(WriteJson(words), whole(arrays), WRITING_PATIENCE_S)
        except OverloadedError:
            return await asyncio.to_thread(_written, arrays, words)
        return {name: msgspec.Raw(text.data) for name, text in answer.arrays.items()}

    async def in_thread(self, read: Callable[[], T]) -> T:
        """What `read` gives: a body that is long, but for the most part no JSON. One at a time,
        since nobody counts the bytes that are made of it. Raises `OverloadedError` when it has no
        turn in time."""
        return await self._thread.do(read)

    async def _do(self, job: _Job, arrays: Sequence[Pieces], time_s: float) -> Answer:
        """Within `time_s` seconds. Raises `OverloadedError`."""
        await self._open()
        end_by = asyncio.get_running_loop().time() + time_s
        try:
            return await self._do_once(job, arrays, end_by)
        except WorkerDiedError:  # reading changes nothing, so it may be done again
            return await self._do_once(job, arrays, end_by)

    async def _do_once(self, job: _Job, arrays: Sequence[Pieces], end_by: float) -> Answer:
        desk = min(self._desks, key=lambda each: each.load)
        size = sum(part.nbytes for array in arrays for part in array.parts)
        desk.check(size)
        desk.load += 1
        desk.nbytes += size
        try:
            async with asyncio.timeout_at(end_by), desk.places:
                worker = await desk.seat.free()
                # Whoever gives up waiting leaves the job to its own end, or the worker's, which
                # comes a moment later: it was not the worker that failed.
                running = desk.seat.run(worker, job, arrays, PATIENCE_S + _MOMENT_S)
                running.add_done_callback(_seen)
                return await asyncio.shield(running)
        except TimeoutError:
            raise OverloadedError(
                "a long JSON body was not read in time; try later, or use MessagePack"
            ) from None
        finally:
            desk.load -= 1
            desk.nbytes -= size

    async def _open(self) -> None:
        """Start the readers, once."""
        if len(self._desks) == self._count:
            return
        async with self._opening:
            if self._stopped:
                raise StoppingError("shutting down", retry_after=5.0)
            while len(self._desks) < self._count:
                desk = _Desk(self._source)
                await desk.seat.start()
                self._desks.append(desk)

    async def stop(self) -> None:
        self._stopped = True
        async with self._opening:
            await asyncio.gather(*(desk.seat.vacate(0.0) for desk in self._desks))
        await self._thread.stop()


def _seen(job: asyncio.Future[Answer]) -> None:
    """A failure that nobody waits for is no defect."""
    if not job.cancelled():
        job.exception()


def _written(arrays: Mapping[str, Array], words: Words) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(text) for name, text in write_arrays(arrays, words).items()}


def _whole(body: Sequence[bytes]) -> list[Pieces]:
    """A body in pieces as one array of bytes."""
    return [Pieces("body", [np.frombuffer(piece, np.uint8) for piece in body])]
