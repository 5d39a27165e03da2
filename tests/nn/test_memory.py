"""Freed memory stays in a process that asked for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Arrays of 8 MiB lie above glibc's first threshold: each would be mapped and faulted anew.
_FAULTS = """
import resource, sys
import numpy as np
from aiaas_async.nn.memory import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(3)
def touch():
    for _ in range(20):
        first, second = np.ones(2**20), np.ones(2**20)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    found = subprocess.run(
        [sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=False
    )
    if found.returncode == 3:
        pytest.skip("the allocator here is not glibc's")
    found.check_returncode()
    return int(found.stdout)


@pytest.mark.real
def test_a_process_that_keeps_freed_memory_faults_it_in_once() -> None:
    assert _faults("keep") * 10 < _faults("give back")
