"""Sequences: the calls of one go to one node, one after the other, and share no batch.

What a version remembers lies in the memory of one worker: a sequence stays with the node that its
first call went to. When that worker's copy of the version is gone, so is the state, and the caller
is told instead of being answered from nothing. So is one whose time ends, or who leaves, while a
call is computed: whether it moved the state on will not be known, so the sequence is over. A call
that nobody waits for any more when its node comes to it is dropped, and changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from aiaas_async.errors import (
    DeadlineError,
    InputError,
    OverloadedError,
    StoppingError,
    WorkerError,
)
from aiaas_async.messages import TensorSpec
from aiaas_async.node.work import Call, Result, Servable, WorkItem, cost_of
from aiaas_async.schedule.origin import Origin
from aiaas_async.service.seating import Seat, Seating
from aiaas_async.wire.arrays import read_inputs
from aiaas_async.wire.sequences import ID, Mark, mark_of, split_controls

MAX_SEQUENCES: Final = 10_000
MAX_WAITING: Final = 64  # calls of one sequence
IDLE_S: Final = 60.0  # a sequence nobody has called for so long is over
_Key = tuple[str, int | str]


@dataclass(slots=True)
class _Sequence:
    """`state_of` is the load of the version that holds its state; None: it has not begun. `seat`
    is None until its first call's turn, and when the node has left."""

    seat: Seat | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    used: float = 0.0
    state_of: int | None = None


class Sequences:
    """All that are under way."""

    def __init__(self, seating: Seating) -> None:
        self._seating = seating
        self._known: OrderedDict[_Key, _Sequence] = OrderedDict()  # least recently used first

    def __len__(self) -> int:
        return len(self._known)

    async def ask(self, call: Call, deadline: float, origin: Origin) -> Result:
        """The answer to `call` of a stateful version, when those before it have theirs.

        Raises `InputError` for a sequence that has not begun, `WorkerError` when its state is
        lost, `OverloadedError` when too many wait.
        """
        mark = mark_of(call.arrays)
        if not mark.id:
            raise InputError(f"{call.servable.id}: a sequence_id of 0 or '' is no sequence")
        key = (call.servable.id, mark.id)
        found = self._find(key, call.servable, mark)
        found.waiting += 1
        try:
            async with _turn(found, deadline):
                if found.seat is None:
                    found.seat = await self._seat(key, call.servable, deadline)
                return await _run(found, found.seat, call, deadline, origin)
        finally:
            found.waiting -= 1
            found.used = asyncio.get_running_loop().time()
            if not found.waiting and found.state_of is None:
                self._known.pop(key, None)

    def _find(self, key: _Key, servable: Servable, mark: Mark) -> _Sequence:
        now = asyncio.get_running_loop().time()
        self._forget_idle(now)
        found = self._known.get(key)
        if found is None:
            if not mark.start:
                raise _not_begun(servable, mark)
            if len(self._known) >= MAX_SEQUENCES:
                raise OverloadedError(f"{MAX_SEQUENCES} sequences are under way already")
            found = self._known[key] = _Sequence()
        if found.waiting >= MAX_WAITING:
            raise OverloadedError(f"{MAX_WAITING} calls of sequence {mark.id!r} wait already")
        found.used = now
        self._known.move_to_end(key)
        return found

    async def _seat(self, key: _Key, servable: Servable, deadline: float) -> Seat:
        """A place for a new sequence. Its calls share no batch, not even with other sequences:
        the calls of a failed batch are run again, and a state would be moved on twice."""
        node, seated = await self._seating.seat(servable, f"{key[0]}/{key[1]}", deadline)
        return node, replace(seated, max_batch_size=1, max_delay_s=0.0)

    def _forget_idle(self, now: float) -> None:
        while self._known:
            key, oldest = next(iter(self._known.items()))
            if oldest.waiting or now - oldest.used < IDLE_S:
                return
            del self._known[key]


def sequence_of(raw: Mapping[str, Any], specs: Sequence[TensorSpec]) -> str | None:
    """The id in the raw inputs of a call of a version that takes `specs`; None where there is none
    that can be read: the version called says what is wrong with it."""
    _, controls = split_controls(specs)
    spec = next((spec for spec in controls if spec.name == ID), None)
    if spec is None or ID not in raw:
        return None
    try:
        return str(mark_of(read_inputs({ID: raw[ID]}, (spec,)).arrays).id)
    except InputError:
        return None


@asynccontextmanager
async def _turn(found: _Sequence, deadline: float) -> AsyncIterator[None]:
    """Wait for the calls before. Raises `DeadlineError`."""
    try:
        async with asyncio.timeout_at(deadline):
            await found.turn.acquire()
    except TimeoutError:
        raise DeadlineError("the calls before this one in its sequence took too long") from None
    try:
        yield
    finally:
        found.turn.release()


async def _run(found: _Sequence, seat: Seat, call: Call, deadline: float, origin: Origin) -> Result:
    """`call`, whose turn it is."""
    mark = mark_of(call.arrays)
    if not mark.start and found.state_of is None:
        raise _not_begun(call.servable, mark)
    before = None if mark.start else found.state_of
    node, servable = seat
    message = msgspec.structs.replace(call, servable=servable)
    try:
        item = node.submit(message, cost_of(call.arrays), deadline, origin)
        result = await _answer(found, item, mark)
    except StoppingError:  # its node leaves; a start finds it another
        found.state_of = found.seat = None
        if before is None:
            raise
        raise _lost(call.servable, mark) from None
    now = node.incarnation(servable.id)
    if before is not None and before != now:
        found.state_of = None
        raise _lost(call.servable, mark)
    found.state_of = None if mark.end else now
    return result


async def _answer(found: _Sequence, item: WorkItem, mark: Mark) -> Result:
    try:
        return await item.reply
    except (DeadlineError, asyncio.CancelledError) as error:
        if item.taken:
            found.state_of = None
            if isinstance(error, DeadlineError):
                raise _unknown(mark) from None
        raise


def _lost(servable: Servable, mark: Mark) -> WorkerError:
    return WorkerError(
        f"what {servable.id} knew of sequence {mark.id!r} was lost with its worker; start it again"
    )


def _unknown(mark: Mark) -> DeadlineError:
    return DeadlineError(
        f"the time of this call of sequence {mark.id!r} ended while it was computed: whether it "
        "counts is not known, so the sequence is over; start it again"
    )


def _not_begun(servable: Servable, mark: Mark) -> InputError:
    return InputError(
        f"inference request for sequence {mark.id} to model '{servable.ref.name}' must specify the "
        "START flag on the first request of the sequence"
    )
