"""Readers: processes that turn long JSON bodies into arrays, beside the event loop and the nodes,
and the arrays of long answers into JSON.

They are workers like any node's, but their jobs need no model. The first long body starts them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from aiaas_async.compute.base import Answer, WorkerSource
from aiaas_async.compute.frames import Array, Pieces, whole
from aiaas_async.compute.jobs import WITHOUT_INPUTS, ReadInfer, ReadJson, WriteJson
from aiaas_async.compute.slots import JOBS_UNDER_WAY
from aiaas_async.errors import OverloadedError, StoppingError, WorkerDiedError
from aiaas_async.node.seat import WorkerSeat
from aiaas_async.wire.longjson import put_together
from aiaas_async.wire.open_inference import InferRequest, Model

# At a reader, the one that it reads included.
MAX_WAITING: Final = 256
MAX_BYTES: Final = 256 << 20
PATIENCE_S: Final = 10.0  # 16 MiB of JSON take 0.1 s


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
        self._opening = asyncio.Lock()
        self._stopped = False

    async def read_json(self, body: Sequence[bytes]) -> Any:
        """The value of a JSON body, in pieces; its long lists of numbers are numpy arrays.

        Raises what reading it raises, `OverloadedError` when too many bodies wait.
        """
        answer = await self._do(ReadJson(), _whole(body))
        return put_together(answer.arrays)

    async def read_infer(
        self, body: Sequence[bytes], header_length: str | None, model: Model
    ) -> InferRequest:
        """An infer request of the Open Inference Protocol, as `read_request` reads it."""
        job = ReadInfer(header_length, model.name, model.inputs, model.outputs)
        answer = await self._do(job, _whole(body))
        inputs = dict(answer.arrays)
        rest = msgspec.msgpack.decode(inputs.pop(WITHOUT_INPUTS).tobytes(), type=InferRequest)
        return msgspec.structs.replace(rest, inputs=inputs)

    async def write_json(self, arrays: Mapping[str, Array]) -> dict[str, msgspec.Raw]:
        """Each of `arrays` as JSON has it. Raises `OverloadedError`."""
        answer = await self._do(WriteJson(), whole(arrays))
        return {name: msgspec.Raw(text.data) for name, text in answer.arrays.items()}

    async def _do(self, job: ReadJson | ReadInfer | WriteJson, arrays: Sequence[Pieces]) -> Answer:
        await self._open()
        try:
            return await self._do_once(job, arrays)
        except WorkerDiedError:  # reading changes nothing, so it may be done again
            return await self._do_once(job, arrays)

    async def _do_once(
        self, job: ReadJson | ReadInfer | WriteJson, arrays: Sequence[Pieces]
    ) -> Answer:
        desk = min(self._desks, key=lambda each: each.load)
        size = sum(part.nbytes for array in arrays for part in array.parts)
        desk.check(size)
        desk.load += 1
        desk.nbytes += size
        try:
            async with asyncio.timeout(PATIENCE_S), desk.places:
                worker = await desk.seat.free()
                return await desk.seat.run(worker, job, arrays, PATIENCE_S)
        except TimeoutError:
            raise OverloadedError("a long JSON body found no reader in time") from None
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


def _whole(body: Sequence[bytes]) -> list[Pieces]:
    """A body in pieces as one array of bytes."""
    return [Pieces("body", [np.frombuffer(piece, np.uint8) for piece in body])]
