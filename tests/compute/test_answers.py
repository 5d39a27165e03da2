"""Whatever happens to a job, its answer arrives: driven over a real line, without a process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from aiaas_async.compute import worker as worker_module
from aiaas_async.compute.frames import MAX_DATAGRAM, decode_reply, encode
from aiaas_async.compute.host import Part, failure
from aiaas_async.compute.jobs import Done, Failed, Reply, Request, Unload
from aiaas_async.compute.slots import Slot
from aiaas_async.compute.worker import Worker
from aiaas_async.errors import ConflictError, InputError


class Host:
    """Does what the test says, in place of a model."""

    def __init__(self, parts: list[Part | Exception]) -> None:
        self._parts = parts

    def do(self, job: Any, arrays: Any) -> Iterator[Part]:
        for part in self._parts:
            if isinstance(part, Exception):
                raise part
            yield part


def answers(parts: list[Part | Exception], monkeypatch: pytest.MonkeyPatch) -> list[Reply]:
    """What a worker sends for one job that its host does so."""
    monkeypatch.setattr(worker_module, "Host", lambda **_: Host(parts))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    slots = [Slot.create() for _ in range(4)]
    with ours, theirs:
        ours.send(encode(Request(0, Unload("m"))))
        ours.shutdown(socket.SHUT_WR)
        Worker(theirs, slots[:2], slots[2:]).serve()
        theirs.shutdown(socket.SHUT_WR)
        replies = []
        while datagram := ours.recv(MAX_DATAGRAM):
            replies.append(decode_reply(bytearray(datagram))[0])
    for slot in slots:
        slot.close()
    return replies


def test_progress_comes_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = answers([Part({"n": 1}, final=False), Part({"n": 2})], monkeypatch)
    assert [type(reply.outcome).__name__ for reply in replies] == ["Progress", "Done"]
    assert isinstance(replies[-1].outcome, Done)
    assert replies[-1].outcome.facts == {"n": 2}


def test_an_answer_too_large_to_describe_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    (reply,) = answers([Part({"text": "x" * MAX_DATAGRAM})], monkeypatch)
    assert isinstance(reply.outcome, Failed)
    assert reply.outcome.code == "internal"
    assert "an answer's description takes" in reply.outcome.message


def test_an_answer_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    (reply,) = answers([Part({"object": object()})], monkeypatch)
    assert isinstance(reply.outcome, Failed)
    assert reply.outcome.code == "worker"


def test_a_worker_keeps_its_freed_memory_and_ends_with_its_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[bool] = []
    monkeypatch.setattr(worker_module, "keep_freed_memory", lambda: kept.append(True))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    slots = [Slot.create() for _ in range(4)]
    ours.close()
    worker_module.run([theirs.detach(), *(os.dup(slot.fileno()) for slot in slots)])
    assert kept == [True]
    for slot in slots:
        slot.close()


def test_errors_travel_with_their_code_and_facts() -> None:
    assert failure(ConflictError("no", {"a": [1]})) == Failed("conflict", "no", {"a": [1]})
    assert failure(MemoryError()).code == "memory_budget"
    unexpected = failure(ZeroDivisionError("secret of the model"))
    assert unexpected.code == "worker"
    assert "secret" not in unexpected.message


@pytest.mark.parametrize(
    "details", [{"n": np.int64(3)}, {"n": object()}, {"n": 2**70}, {"text": "x" * 100_000}]
)
def test_facts_that_cannot_travel_are_left_behind(details: dict[str, Any]) -> None:
    assert failure(InputError("wrong", details)) == Failed("invalid_input", "wrong", {})
