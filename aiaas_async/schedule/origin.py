"""Where work comes from: what a schedule may go by beside the work itself."""

from __future__ import annotations

from typing import Final, NamedTuple

CALLS: Final = "call"
BATCH: Final = "batch"
SHADOW: Final = "shadow"
# Someone waits for a call; a batch job has all night.
WEIGHTS: Final = {CALLS: 4.0}
TENANT: Final = "default"  # whose work is that says nothing of a tenant


class Origin(NamedTuple):
    """`flow` is the kind of work; of two, the higher `priority` is more urgent."""

    flow: str = CALLS
    tenant: str = TENANT
    priority: int = 0


A_CALL: Final = Origin()
