"""Work that waits, and queues of it, for the tests of the disciplines."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st


@dataclass(frozen=True, slots=True)
class Job:
    name: int
    flow: str = "call"
    priority: int = 0
    deadline: float | None = None
    expected_s: float = 0.001
    tenant: str = "default"


jobs = st.builds(
    Job,
    name=st.integers(0, 10**9),
    flow=st.sampled_from("abc"),
    priority=st.integers(-3, 3),
    deadline=st.none() | st.floats(0, 10),
    expected_s=st.floats(0, 1),
    tenant=st.sampled_from("xy"),
)
