"""Loading: the first answer of a 537 MB version beside a warm one, and what two nodes hold.

    python -m bench.loading [--rounds N]

Eight dense layers of 4096 x 4096; weights, or what was laid out of them, are mapped, so the first
pass pays for its pages, and two workers share them: what the server's processes take more than
before, each page counted once, divided among those who have it (PSS).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from aiaas_async.client import Client
from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.testing import server
from bench.bodies import graph
from bench.peers.processes import memory_mb

_LAYERS, _UNITS = 8, 4096


def prepare(folder: Path) -> int:
    """A version's files; returns the bytes of its weights."""
    layers = [{"name": f"d{i}", "op": "dense", "units": _UNITS} for i in range(_LAYERS - 1)]
    layers.append({"name": "y", "op": "dense", "units": _UNITS})
    rng = np.random.default_rng(0)
    weights = {}
    for layer in layers:
        weight = rng.standard_normal((_UNITS, _UNITS), np.float32)
        weights[f"{layer['name']}.weight"] = weight * np.float32(0.01)
        weights[f"{layer['name']}.bias"] = np.zeros(_UNITS, np.float32)
    write_tensors(folder / "weights.safetensors", weights)
    (folder / "graph.json").write_bytes(msgspec.json.encode(graph((_UNITS,), *layers)))
    return sum(array.nbytes for array in weights.values())


def timed_call(client: Client, x: np.ndarray, key: str | None = None) -> float:
    started = time.perf_counter()
    client.call({"x": x}, model="large", key=key)
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    x = np.ones(_UNITS, np.float32)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "large").mkdir()
        nbytes = prepare(folder / "large")
        with (
            server(folder / "data", "--nodes", "2", "--log-level", "warning") as running,
            Client(running.url) as client,
        ):
            client.push("large", "1", folder / "large")
            before = memory_mb(running.process.pid)
            first, warm = [], []
            for _ in range(rounds):
                client.unload("large", "1")
                first.append(timed_call(client, x))
                warm += [timed_call(client, x) for _ in range(3)]
            keys: dict[str, str] = {}
            for number in range(100):
                keys.setdefault(client.ring(f"key-{number}")["owner"], f"key-{number}")
            for key in keys.values():
                timed_call(client, x, key)
            held = 1e6 * (memory_mb(running.process.pid) - before)
    a, b = statistics.median(first), statistics.median(warm)
    print(f"first answer {a:.0f} ms, warm {b:.0f} ms: {a / b:.2f} (at most 2.5)")
    print(
        f"{len(keys)} nodes hold {held / 1e6:.0f} MB of {nbytes / 1e6:.0f} MB together: "
        f"{held / nbytes:.2f} (at most 1.1)"
    )


if __name__ == "__main__":
    main()
