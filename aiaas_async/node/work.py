"""What a node can be asked, and what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from aiaas_async.actors.envelope import Envelope
from aiaas_async.compute.frames import Array
from aiaas_async.compute.jobs import ArtifactFiles, InputFile, OpenStream, StreamJob
from aiaas_async.messages import TensorSpec
from aiaas_async.names import ModelRef
from aiaas_async.requestid import REQUEST_ID
from aiaas_async.schedule.origin import A_CALL, CALLS, Origin
from aiaas_async.schedule.rates import Rates
from aiaas_async.wire.sequences import is_stateful
from aiaas_async.wire.unread import NONE_UNREAD, Unread


@dataclass(frozen=True, slots=True)
class Servable:
    """A committed version as nodes see it. `nbytes` stay resident once it is loaded;
    `max_delay_s` is how long a batch that is not full may wait for company."""

    ref: ModelRef
    artifact: ArtifactFiles
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nbytes: int
    max_batch_size: int = 32
    max_delay_s: float = 0.0
    allow_nonfinite: bool = False
    piece: str = ""  # which piece of a deployment; empty for the version as it is

    id: str = field(init=False)
    output_names: tuple[str, ...] = field(init=False)
    stateful: bool = field(init=False)  # its calls belong to sequences
    rigid: bool = field(init=False)  # all its calls' arrays agree in dtype and item shape

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_names", tuple(spec.name for spec in self.outputs))
        fixed = all(
            spec.dtype != "string" and spec.shape is not None and -1 not in spec.shape
            for spec in self.inputs
        )
        object.__setattr__(self, "rigid", fixed and not self.piece)
        object.__setattr__(self, "stateful", is_stateful(self.inputs))
        object.__setattr__(self, "id", f"{self.ref}{self.piece}")


class Call(msgspec.Struct, frozen=True, gc=False):
    """Run `servable` over `rows` rows; every array is [rows, *item shape]. Inputs that the worker
    is to read are in `unread`: the call fails with `UnreadError` where it cannot."""

    servable: Servable
    arrays: Mapping[str, Array]
    rows: int
    outputs: tuple[str, ...] | None = None
    unread: Mapping[str, Unread] = NONE_UNREAD

    @property
    def cost(self) -> int:
        """Bytes that it keeps alive, as a mailbox counts them."""
        texts = sum([each.nbytes for each in self.unread.values()]) if self.unread else 0
        return cost_of(self.arrays) + texts


@dataclass(frozen=True, slots=True)
class StreamStep:
    """A step of an answer in parts. Only the first has arrays, and loads `servable`."""

    servable: Servable
    job: StreamJob
    arrays: Mapping[str, Array] = field(default_factory=dict)

    @property
    def begins(self) -> bool:
        """Whether it is the first."""
        return isinstance(self.job, OpenStream)


@dataclass(frozen=True, slots=True)
class Scanning:
    """Run `servable` over rows `start` to `stop` - 1 of column files, or over those `picked`,
    int64 [k]. The worker reads them itself; it runs alone, never with others in a batch."""

    servable: Servable
    files: tuple[InputFile, ...]
    start: int
    stop: int
    outputs: tuple[str, ...]
    picked: Array | None = None

    @property
    def rows(self) -> int:
        return self.stop - self.start if self.picked is None else len(self.picked)


@dataclass(frozen=True, slots=True)
class Differentiation:
    """Loss, and gradients with respect to `wrt`; arrays are named inputs/… and targets/…."""

    servable: Servable
    arrays: Mapping[str, Array]
    wrt: Literal["nothing", "inputs", "parameters", "both"]
    loss: str | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Load `servable`; a pinned one is never evicted. `again`: only if it is pinned still."""

    servable: Servable
    pin: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """Unload a version, pinned or not; one that is not loaded is fine."""

    servable_id: str


Message = Call | Scanning | StreamStep | Differentiation | Hold | Release


def _is_bounded(message: Message) -> bool:
    """Whether callers can send any number of such. A deployment has a piece held once, each new
    worker what is pinned, and both are released once: refused, its memory would be lost."""
    if isinstance(message, Hold):
        return not (message.again or message.servable.piece)
    return not isinstance(message, Release)


class Result(msgspec.Struct, frozen=True, gc=False):
    """Arrays that belong to the receiver, plain facts, and where the time went (seconds)."""

    node: str
    arrays: Mapping[str, Array] = msgspec.field(default_factory=dict)
    facts: Mapping[str, Any] = msgspec.field(default_factory=dict)
    queue_s: float = 0.0
    compute_s: float = 0.0
    batch_size: int = 0
    cached: bool = False  # remembered: no node was asked


class WorkItem(Envelope[Message, Result]):
    """An envelope for a node. `attempts` counts the workers that died while they ran it; `alone`
    forbids company: what failed in a batch runs again by itself, so that it harms no other.
    `flow`, `tenant`, `priority` and `expected_s` are what the node's schedule goes by;
    `request_id` is for the log."""

    __slots__ = ("alone", "attempts", "flow", "priority", "request_id", "tenant")

    def __init__(
        self,
        message: Message,
        cost: int,
        deadline: float | None,
        loop: asyncio.AbstractEventLoop,
        origin: Origin = A_CALL,
    ) -> None:
        super().__init__(message, cost, deadline, loop)
        self.bounded = isinstance(message, Call) or _is_bounded(message)
        self.owed = isinstance(message, Release)
        self.attempts = 0
        self.alone = False
        self.flow, self.tenant, self.priority = origin
        self.request_id = REQUEST_ID.get()

    def reckon(self, message: Call | Scanning, rates: Rates) -> None:
        """Note how long `message`, which this holds, should take, by what was measured."""
        model, rows = message.servable.id, message.rows
        self.expected_s = rates.expected_s(model, rows)
        # A job's tasks come no faster than they are done, and take turns with the calls.
        if self.flow == CALLS and rates.is_settled(model):
            joins = rows < message.servable.max_batch_size
            self.work_s = rates.added_s(model, rows) if joins else self.expected_s


def request_ids(items: Iterable[WorkItem]) -> str:
    """Of the requests that `items` serve, for a log line."""
    return ", ".join(item.request_id for item in items if item.request_id) or "none of a caller's"


def cost_of(arrays: Mapping[str, Array]) -> int:
    """Bytes that `arrays` keep alive, as a mailbox counts them."""
    total = 256
    for array in arrays.values():
        total += array.nbytes
    return total
