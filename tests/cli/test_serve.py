"""`aiaas serve` as a process: what keeps it from starting is one line and a status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real


def test_a_runtime_that_cannot_be_imported_ends_serve_with_status_2_and_one_line(
    tmp_path: Path,
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'data_dir = "{tmp_path / "data"}"\nport = 0\n[runtimes.mine]\ntarget = "nopkg.mod:Class"\n'
    )
    command = [sys.executable, "-m", "aiaas_async", "serve", "--config", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == (
        "aiaas serve: runtimes.mine: target 'nopkg.mod:Class' cannot be used: "
        "ModuleNotFoundError: No module named 'nopkg'\n"
    )


def test_a_fork_server_whose_server_has_gone_before_it_is_ready_ends_in_silence() -> None:
    code = (
        "from aiaas_async.compute.pool import start_fork_server\n"
        "process, control = start_fork_server(1)\n"
        "control.close()\n"
        "raise SystemExit(process.wait(60))\n"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
