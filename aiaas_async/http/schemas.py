"""The shapes of bodies that are read, and of replies that are made, without a struct: they only
describe, for /openapi.json."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from aiaas_async.actors.mailbox import MailboxStatistics
from aiaas_async.deploy.assign import Split
from aiaas_async.deploy.plan import Mode, PlanRequest
from aiaas_async.registry.records import Traffic
from aiaas_async.service.caching import CacheStatistics


class Call(msgspec.Struct, frozen=True, omit_defaults=True):
    """Inputs by name: nested lists in JSON, tensors in MessagePack. `model` is NAME, NAME:VERSION
    or NAME:ALIAS; without one the model that takes exactly such inputs answers, and the inputs
    alone may be the whole body."""

    inputs: dict[str, Any]
    model: str | None = None
    version: str | None = None
    outputs: list[str] | None = None
    timeout_ms: float | None = None
    key: str | None = None
    tenant: str | None = None


class Differentiating(msgspec.Struct, frozen=True, omit_defaults=True):
    """Inputs and targets by name; what the gradient is with respect to."""

    inputs: dict[str, Any]
    targets: dict[str, Any]
    loss: str | None = None
    output: str | None = None
    wrt: Literal["inputs", "parameters", "both"] = "both"
    timeout_ms: float | None = None


class Deploying(PlanRequest, frozen=True, kw_only=True, omit_defaults=True):
    """A `split` makes it distributed; `dry_run`: only the plan is wanted."""

    model: str
    version: str = "latest"
    max_delay_ms: float = 0.0
    cache_mb: int = 0
    dry_run: bool = False


class Pointing(Traffic, frozen=True, kw_only=True, omit_defaults=True):
    """Where an alias points, and who shares its calls."""

    version: str


class Joining(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str | None = None


class ItemsBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Columns [n, …] by name, and n keys; without them a key is made of an item's content."""

    columns: dict[str, Any]
    keys: list[str] | None = None


class V2Tensor(msgspec.Struct, frozen=True, omit_defaults=True):
    """An input; its data lies behind the JSON where `parameters` give a `binary_data_size`."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class V2Output(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    parameters: dict[str, Any] = {}


class V2Infer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The Open Inference Protocol's request."""

    inputs: list[V2Tensor]
    outputs: list[V2Output] = []
    id: str = ""
    parameters: dict[str, Any] = {}


class Timing(msgspec.Struct, frozen=True, omit_defaults=True):
    """In microseconds; `cached` is there for an answer that was remembered."""

    queue_us: int
    compute_us: int
    batch_size: int
    node: str
    cached: bool = False


class Answer(msgspec.Struct, frozen=True):
    """Of a call; outputs by name, nested lists in JSON and tensors in MessagePack."""

    model: str
    version: str
    outputs: dict[str, Any]
    timing: Timing


class Piece(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node holds of a version, and the bytes it has free; the rest where there is a layer
    graph: bytes in and out are per item."""

    node: str
    bytes: int
    free: int
    layers: list[str] | None = None
    expected_ms: float | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None


class PlacementPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """`nodes` in the order of stages or shards; `split` where there are any."""

    mode: Mode
    max_batch_size: int
    micro_batch: int
    bytes: int
    expected_latency_ms: float | None
    expected_items_per_s: float | None
    nodes: list[Piece]
    split: Split | None = None


class DryRun(msgspec.Struct, frozen=True):
    plan: PlacementPlan


class Deployed(msgspec.Struct, frozen=True):
    """`reason` says why it failed, or why its nodes refuse it: then until when, in Unix seconds."""

    id: str
    model: str
    version: str
    state: Literal["loading", "ready", "moving", "failed", "quarantined"]
    reason: str | None
    quarantined_until: float | None
    max_delay_ms: float
    cache_mb: int
    cache: CacheStatistics | None
    mailbox: MailboxStatistics | None
    plan: PlacementPlan | None


class DeploymentList(msgspec.Struct, frozen=True):
    deployments: list[Deployed]
