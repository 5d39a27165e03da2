"""A server that is killed and started again, seen by somebody who follows a job."""

from __future__ import annotations

import threading
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from aiaas_async import Client
from aiaas_async.testing import server

GRAPH = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [64]}],
    "layers": [
        {"name": "hidden", "op": "dense", "units": 256},
        {"name": "active", "op": "relu"},
        {"name": "logits", "op": "dense", "units": 4},
        {"name": "label", "op": "argmax"},
    ],
    "outputs": ["label"],
}


def start_training(client: Client) -> str:
    rng = np.random.default_rng(0)
    columns = {
        "x": rng.normal(size=(4000, 64)).astype(np.float32),
        "y": rng.integers(0, 4, 4000),
    }
    client.put_dataset("noise", {"x": {"dtype": "float32", "shape": [64]}, "y": {"dtype": "int64"}})
    client.put_items("noise", columns)
    job = client.train(
        model="m", version="1.0", dataset="noise", graph=GRAPH, plan={"epochs": 20, "target": "y"}
    )
    identity: str = job["job"]
    return identity


@pytest.mark.real
def test_a_job_is_followed_to_its_end_though_the_server_was_killed(tmp_path: Path) -> None:
    kinds: list[str] = []
    under_way = threading.Event()

    def follow(url: str, job: str) -> None:
        with Client(url, timeout=60.0) as client:
            for event in client.follow(job):
                kinds.append(event.kind)
                if event.kind == "progress":
                    under_way.set()

    with server(tmp_path) as first:
        with Client(first.url) as client:
            job = start_training(client)
        follower = threading.Thread(target=follow, args=(first.url, job), daemon=True)
        follower.start()
        assert under_way.wait(60)
        first.process.kill()
        first.process.wait()
    port = str(urlsplit(first.url).port)
    with server(tmp_path, "--port", port) as second, Client(second.url) as client:
        follower.join(60)
        assert not follower.is_alive()
        assert kinds[-1] == "end"
        assert kinds.count("end") == 1
        done = client.wait(job)
        assert done["starts"] == 2
        assert client.call(x=np.zeros(64), model="m").version == "1.0"
