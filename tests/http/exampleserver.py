"""A server process with the reference server's seven example models and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from aiaas_async.testing import RunningServer, server
from tests.http.examples import EXAMPLES, RUNTIMES


@contextmanager
def example_server(folder: Path) -> Iterator[RunningServer]:
    config = folder / "config.toml"
    rows = [f'[runtimes.{name}]\ntarget = "{target}"\n' for name, target in RUNTIMES.items()]
    config.write_text("nodes = 2\nmax_batch_size = 8\n" + "".join(rows))
    with server(folder / "data", "--config", str(config)) as running:
        for metadata in EXAMPLES:
            version = f"{running.url}/models/{metadata['name']}/versions/1"
            requests.post(f"{running.url}/register", json=metadata, timeout=20).raise_for_status()
            requests.put(f"{version}/files/any", data=b"any", timeout=20).raise_for_status()
            requests.post(f"{version}/commit", timeout=20).raise_for_status()
        yield running
