"""The reference server's load generator, unchanged, against a real server process."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from aiaas_async.testing import RunningServer
from tests.http.exampleserver import example_server

PROGRAM = shutil.which("perf_analyzer")

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        PROGRAM is None,
        reason="perf_analyzer is not on PATH: pip install perf-analyzer (it needs glibc 2.38; "
        ".ci/perf_analyzer brings one)",
    ),
]
_INFERENCES = re.compile(r"Inference count: (\d+)")


@pytest.mark.parametrize("form", ["binary", "json"])
def test_a_run_over_several_concurrencies_finishes(tmp_path: Path, form: str) -> None:
    forms = ("--input-tensor-format", form, "--output-tensor-format", form)
    with example_server(tmp_path) as running:
        told = run(running, "simple", "--concurrency-range", "1:3:2", *forms)
    counts = [int(count) for count in _INFERENCES.findall(told)]
    assert len(counts) == 2
    assert min(counts) > 0


@pytest.mark.parametrize("model", ["simple_sequence", "simple_string_dyna_sequence"])
def test_a_run_over_sequences_finishes(tmp_path: Path, model: str) -> None:
    with example_server(tmp_path) as running:
        told = run(running, model, "--concurrency-range", "2", "--string-length", "4")
    (count,) = _INFERENCES.findall(told)
    assert int(count) > 0


def run(running: RunningServer, model: str, *flags: str) -> str:
    """What the program tells of a short run over `model`. Raises when it fails."""
    command = [PROGRAM or "", "-m", model, "-u", running.url.removeprefix("http://"), "-i", "http"]
    quick = ["--shared-memory", "none", "-p", "300", "-s", "500", "-r", "3"]
    done = subprocess.run(
        [*command, *quick, *flags], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
