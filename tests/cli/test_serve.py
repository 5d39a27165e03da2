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
