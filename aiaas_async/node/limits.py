"""What a node may hold, how long it waits, and the order in which it takes what waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiaas_async.actors.mailbox import Mailbox
from aiaas_async.node.work import WorkItem
from aiaas_async.schedule.disciplines import make_discipline


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """Bytes and seconds. A job may run `patience_s`, counted from when the worker comes to it,
    and to the latest of its callers' deadlines if that is later; then its worker is ended. So a
    caller in a hurry ends nothing that another would wait for, and what is ended was too slow for
    the server itself: it counts towards quarantine like any death. `schedule` names the discipline
    of the mailbox, `tenants` are their weights in it."""

    memory: int = 4 << 30
    mailbox_items: int = 1024
    mailbox_bytes: int = 256 << 20
    load_timeout_s: float = 300.0
    patience_s: float = 30.0
    schedule: str = "fair"
    tenants: Mapping[str, float] = field(default_factory=dict)

    def mailbox(self) -> Mailbox[WorkItem]:
        """An empty mailbox within these limits."""
        order = make_discipline(self.schedule, self.tenants)
        return Mailbox(self.mailbox_items, self.mailbox_bytes, order)

    def time_of(self, items: Sequence[WorkItem]) -> tuple[float, float]:
        """How long a job for `items` may run in any case, and until when (loop time) it may."""
        deadlines = [item.deadline for item in items if item.deadline is not None]
        if not deadlines:
            return self.load_timeout_s, 0.0
        return self.patience_s, max(deadlines)
