"""A job's record and the table of its states."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from aiaas_async.errors import ConflictError

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]

# A running job goes back to "queued" when the server stops: it resumes at the next start. One
# that was cancelled or failed does so when a user has it resumed.
TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    "queued": frozenset({"running", "cancelled", "failed"}),
    "running": frozenset({"succeeded", "failed", "cancelled", "queued"}),
    "succeeded": frozenset(),
    "failed": frozenset({"queued"}),
    "cancelled": frozenset({"queued"}),
}
UNDER_WAY: Final = frozenset({"queued", "running"})


class JobRecord(msgspec.Struct, frozen=True, omit_defaults=False):
    """`request` is what was asked, `result` what came of it, `progress` how far it was at its last
    change of state; times are Unix seconds, for show."""

    id: str
    kind: str
    state: State
    request: dict[str, Any]
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    starts: int = 0
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    progress: dict[str, Any] = {}

    @property
    def over(self) -> bool:
        return self.state not in UNDER_WAY

    def moved(self, state: State, **changes: Any) -> JobRecord:
        """This record in `state`; raises `ConflictError` when the table has no such move."""
        if state not in TRANSITIONS[self.state]:
            raise ConflictError(f"job {self.id} is {self.state} and cannot become {state}")
        return msgspec.structs.replace(self, state=state, **changes)
