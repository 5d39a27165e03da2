"""The shapes of replies that the service makes without a struct: they only describe, for
/openapi.json."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from aiaas_async.actors.mailbox import MailboxStatistics
from aiaas_async.deploy.assign import Split
from aiaas_async.deploy.plan import Mode
from aiaas_async.service.caching import CacheStatistics


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
