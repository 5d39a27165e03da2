"""For tests of programs that use the platform: a real server on a free port, in a process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_READY = "listening on "


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server process that answers at `url`."""

    url: str
    process: subprocess.Popen[str]


@contextmanager
def server(
    data_dir: Path, *flags: str, environment: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """`aiaas serve` on a free port with `data_dir`; SIGTERM at the end.

    Raises `RuntimeError` when it does not come up, or does not end with status 0.
    """
    command = [sys.executable, "-m", "aiaas_async", "serve", "--port", "0"]
    process = subprocess.Popen(  # noqa: S603 - our own module
        [*command, "--data-dir", str(data_dir), *flags],
        stdout=subprocess.PIPE,
        text=True,
        env=None if environment is None else dict(environment),
    )
    try:
        yield RunningServer(_address(process), process)
    finally:
        status = stop(process)
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the server ended with status {status}")


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(_READY):
            return line.removeprefix(_READY).strip()
    raise RuntimeError(f"the server ended with status {process.wait()} before it was ready")


def stop(process: subprocess.Popen[str], timeout_s: float = 30.0) -> int:
    """SIGTERM, then wait; SIGKILL when it takes longer. Returns the status."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()
