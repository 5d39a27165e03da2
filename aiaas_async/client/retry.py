"""When to ask again: never sooner than the server said, never past the deadline, never in a storm.

Only refusals are retried, which cost the server next to nothing and did nothing. A worker that
died is not asked again: the server has tried twice already, and a third death quarantines the
version for everybody.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aiaas_async.errors import AiaasError, WorkerError

RETRIED_STATUS = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Pauses double from `base_s` up to `cap_s`, or are what Retry-After says if that is more,
    and up to `jitter` longer, so that clients refused together do not return together.

    `reserve` retries are free; beyond them each request that succeeds earns `share` of one, so a
    busy client adds at most a tenth to the load of a server that refuses everything.
    """

    base_s: float = 0.1
    cap_s: float = 10.0
    jitter: float = 0.25
    reserve: float = 10.0
    share: float = 0.1

    def backoff(self, attempt: int, draw: float) -> float:
        """Seconds before try number `attempt` + 1; `draw` is random in [0, 1)."""
        return min(self.base_s * 2.0 ** min(attempt, 32), self.cap_s) * (1 + self.jitter * draw)

    def pause(
        self, attempt: int, retry_after: float, remaining: float, draw: float
    ) -> float | None:
        """Seconds to wait, or None when the deadline comes first."""
        wait = max(retry_after * (1 + self.jitter * draw), self.backoff(attempt, draw))
        return wait if wait < remaining else None


@dataclass(slots=True)
class RetryBudget:
    """How many retries a client may still make."""

    policy: RetryPolicy
    left: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.policy.reserve

    def earn(self) -> None:
        self.left = min(self.policy.reserve, self.left + self.policy.share)

    def spend(self) -> bool:
        """Take one retry, if there is one."""
        if self.left < 1:
            return False
        self.left -= 1
        return True


def is_refusal(status: int, error: AiaasError) -> bool:
    """Whether the request was turned away undone, and the server said when to come back."""
    return (
        status in RETRIED_STATUS
        and error.retry_after is not None
        and not isinstance(error, WorkerError)
    )
