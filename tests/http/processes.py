"""A real server with the trap runtime, and a plain client that knows nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from aiaas_async.testing import RunningServer, server
from tests.http.models import BARE_CALL, doubler
from tests.http.traps import WAIT

TYPED = [{"name": "x", "dtype": "float32", "shape": [1]}]
TRAP = {
    "name": "trap",
    "version": "1.0",
    "runtime": "trap",
    "inputs": TYPED,
    "outputs": [{**TYPED[0], "name": "y"}],
}
TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Remote:
    """A server process; `folder` holds its data and the trap's pipes."""

    running: RunningServer
    folder: Path

    @property
    def process(self) -> subprocess.Popen[str]:
        return self.running.process

    def send(self, method: str, path: str, **more: Any) -> requests.Response:
        url = self.running.url + path
        return requests.request(method, url, timeout=TIMEOUT_S, **more)

    def value(self, method: str, path: str, **more: Any) -> Any:
        """The body of an answer that must be of 2xx."""
        response = self.send(method, path, **more)
        assert response.ok, response.text
        return response.json() if response.content else None

    def commit_doubler(self, name: str = "doubler") -> None:
        self.value("POST", "/register", json=doubler(name))
        self.value("POST", f"/models/{name}/versions/1.0/commit")

    def commit_trap(self) -> None:
        self.value("POST", "/register", json=TRAP)
        self.value("PUT", "/models/trap/versions/1.0/files/any", data=b"any")
        self.value("POST", "/models/trap/versions/1.0/commit")

    def call(self, name: str, x: float | list[float], **more: Any) -> requests.Response:
        body = {"model": name, "inputs": {"x": x if isinstance(x, list) else [x]}, **more}
        return self.send("POST", "/call", json=body)

    def doubles(self, **more: Any) -> bool:
        """Whether calls of the doubler are answered."""
        answer = self.call("doubler", BARE_CALL, **more)
        return answer.ok and answer.json()["outputs"]["doubled"] == [2 * x for x in BARE_CALL]

    def waiting_call(self, threads: ThreadPoolExecutor) -> tuple[Future[Any], int]:
        """A call that is under way and waits; and the process it is in."""
        asked = threads.submit(self.call, "trap", WAIT)
        return asked, self.begun()

    def begun(self) -> int:
        """Wait until a call waits; the process it is in."""
        return int((self.folder / "begun").read_text())

    def go(self) -> None:
        (self.folder / "go").write_text("go")


@contextmanager
def remote(folder: Path, *flags: str, **changes: int) -> Iterator[Remote]:
    """A server with two nodes over `folder`, which may have been used before; `changes` of its
    settings."""
    folder.mkdir(exist_ok=True)
    for pipe in ("begun", "go"):
        if not (folder / pipe).exists():
            os.mkfifo(folder / pipe)
    config = folder / "config.toml"
    lines = [f"{name} = {value}" for name, value in {"nodes": 2, **changes}.items()]
    lines += ["[runtimes.trap]", 'target = "tests.http.traps:Trap"', ""]
    config.write_text("\n".join(lines))
    environment = {**os.environ, "TRAP_FOLDER": str(folder), "OPENBLAS_NUM_THREADS": "1"}
    with server(
        folder / "data", "--config", str(config), *flags, environment=environment
    ) as running:
        yield Remote(running, folder)


def serve_in_vain(*flags: str) -> subprocess.CompletedProcess[str]:
    """`aiaas serve` that is expected to end by itself."""
    command = [sys.executable, "-m", "aiaas_async", "serve", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
