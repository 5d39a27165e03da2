"""Server-sent events, in whatever pieces they come."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.client.events import EventReader
from aiaas_async.client.failures import UnexpectedAnswerError
from aiaas_async.jobs.events import Event

STREAM = (
    ": still running\n\n"
    'id: 1\nevent: state\ndata: {"state": "running", "was": "größer 🙂"}\n\n'
    ": still running\r\n\r\n"
    'id: 2\r\nevent: progress\r\ndata: {"loss":\r\ndata: 0.5}\r\n\r\n'
    'id:3\revent:end\rdata:{"state": "succeeded"}\r\r'
).encode()
EVENTS = [
    Event(1, "state", {"state": "running", "was": "größer 🙂"}),
    Event(2, "progress", {"loss": 0.5}),
    Event(3, "end", {"state": "succeeded"}),
]


@given(st.lists(st.integers(0, len(STREAM))))
def test_events_do_not_depend_on_how_the_bytes_are_cut(cuts: list[int]) -> None:
    reader, found = EventReader(), []
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, stop in pairwise(edges):
        found += reader.feed(STREAM[start:stop])
    assert found == EVENTS


def test_an_event_that_is_cut_short_is_no_event() -> None:
    assert EventReader().feed(b'id: 1\nevent: end\ndata: {"state": "succ') == []
    assert EventReader().feed(b'id: 1\nevent: end\ndata: {"state": "succeeded"}\n') == []


@pytest.mark.parametrize(
    "stream",
    [b"data: {}\n\n", b"id: x\nevent: end\ndata: {}\n\n", b"id: 1\nevent: end\ndata: {\n\n"],
)
def test_an_event_of_something_else_is_refused(stream: bytes) -> None:
    with pytest.raises(UnexpectedAnswerError):
        EventReader().feed(stream)
