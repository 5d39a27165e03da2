"""What the kernel tells of us."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aiaas_async.service.host import CpuMeter, descendants, memory, process_figures


def test_a_process_has_memory_and_time() -> None:
    figures = process_figures(os.getpid())
    assert figures is not None
    assert figures.resident >= figures.proportional > 1 << 20
    assert figures.cpu_s > 0


def test_a_process_that_has_ended_has_no_figures() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert process_figures(done.pid) is None
    assert descendants(done.pid) == []


@pytest.mark.real
def test_descendants_are_children_and_their_children() -> None:
    code = (
        "import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', 'input()']);"
        "print(c.pid, flush=True); input(); c.kill(); c.wait()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        assert {child.pid, grandchild} <= set(descendants(os.getpid()))
        assert descendants(child.pid) == [grandchild]
        child.communicate(b"\n")


def test_the_machine_has_more_memory_than_is_used() -> None:
    found = memory()
    assert found is not None
    assert 0 < found.used < found.total


def test_cores_are_busy_between_none_and_all() -> None:
    meter = CpuMeter()
    for _ in range(3):
        share = meter.share()
        assert share is not None
        assert 0 <= share <= 1
