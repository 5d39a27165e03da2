"""Answers in parts inside a worker: computed on demand, bounded, and gone with their version."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from aiaas_async.compute import streams
from aiaas_async.compute.streams import OpenStreams, Part
from aiaas_async.errors import InputError, OverloadedError, WorkerError


class Counted:
    """Parts that note how many were computed, and whether they were closed."""

    def __init__(self, parts: int = 3) -> None:
        self.left, self.computed, self.closed = parts, 0, False

    def __iter__(self) -> Iterator[Part]:
        return self

    def __next__(self) -> Part:
        if self.computed == self.left:
            raise StopIteration
        self.computed += 1
        return {"y": np.array([self.computed])}

    def close(self) -> None:
        self.closed = True


def test_a_part_is_computed_when_it_is_asked_for() -> None:
    opened, parts = OpenStreams(), Counted(2)
    opened.open("s", "m", parts, 60.0)
    assert parts.computed == 0
    for number in (1, 2):
        part = opened.next("s")
        assert part is not None
        assert (part["y"].tolist(), parts.computed) == ([number], number)
    assert opened.next("s") is None
    assert len(opened) == 0
    with pytest.raises(WorkerError, match="was lost with its worker"):
        opened.next("s")


def test_a_stream_that_fails_is_over() -> None:
    def failing() -> Iterator[Part]:
        yield {}
        raise InputError("no")

    opened = OpenStreams()
    opened.open("s", "m", failing(), 60.0)
    opened.next("s")
    with pytest.raises(InputError):
        opened.next("s")
    assert len(opened) == 0


def test_a_version_that_goes_takes_its_streams_along() -> None:
    opened, ours, other = OpenStreams(), Counted(), Counted()
    opened.open("a", "m", ours, 60.0)
    opened.open("b", "n", other, 60.0)
    opened.close_all("m")
    assert (ours.closed, other.closed, len(opened)) == (True, False, 1)
    opened.close("a")  # it is closed already


def test_one_that_fails_while_it_is_closed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def stubborn() -> Iterator[Part]:
        try:
            yield {}
        finally:
            raise KeyError("secret")

    opened = OpenStreams()
    opened.open("s", "m", stubborn(), 60.0)
    opened.next("s")
    opened.close("s")
    assert "a stream of m failed when it was closed" in caplog.text


def test_streams_are_bounded_and_late_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_OPEN", 1)
    opened, first = OpenStreams(), Counted()
    opened.open("a", "m", first, 60.0)
    with pytest.raises(OverloadedError):
        opened.open("b", "m", Counted(), 60.0)
    opened.close("a")
    late = Counted()
    opened.open("a", "m", late, -1.0)
    opened.open("b", "m", Counted(), 60.0)
    assert late.closed
