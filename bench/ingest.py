"""What `Dataset.put` costs over writing the same bytes to one file, and what reading costs."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aiaas_async.data.dataset import Dataset
from aiaas_async.data.items import checksums
from aiaas_async.data.schema import parse_spec
from aiaas_async.ring.hashring import Ring

BATCHES = 8
BATCH_BYTES = 16 * 2**20


def best(run: Callable[[int], object], repeats: int = BATCHES) -> float:
    """The shortest of some runs, in seconds."""
    times = []
    for i in range(repeats):
        start = time.perf_counter()
        run(i)
        times.append(time.perf_counter() - start)
    return min(times)


def time_plain_write(folder: Path, batch: np.ndarray[Any, Any]) -> float:
    """The floor: one write and one fsync."""

    def write(i: int) -> None:
        with (folder / f"plain{i}").open("wb") as file:
            file.write(batch.data)
            file.flush()
            os.fsync(file.fileno())

    return best(write)


def time_checksums(batch: np.ndarray[Any, Any]) -> float:
    return best(lambda _: checksums({"x": batch}))


def time_put(folder: Path, batch: np.ndarray[Any, Any], nodes: int, replication: int) -> float:
    body = {
        "columns": {"x": {"dtype": "float32", "shape": [batch.shape[1]]}},
        "replication": replication,
    }
    ring = Ring([f"node-{i}" for i in range(nodes)], bytes(16))
    place = folder / f"{nodes}-{replication}-{batch.shape[1]}"
    dataset = Dataset.create(place, parse_spec("bench", "0", body, 0.0), ring)
    names = [[f"{i}/{j}" for j in range(len(batch))] for i in range(BATCHES)]
    return best(lambda i: dataset.put(names[i], {"x": batch}))


def time_take(folder: Path, width: int) -> float:
    source = Dataset.open(folder / f"2-1-{width}", Ring(["node-0", "node-1"], bytes(16))).source()
    rows = np.random.default_rng(1).integers(0, len(source), 4096)
    return best(lambda _: source.take(rows)) / (4096 * width * 4)


def main() -> None:
    for width in (64, 784, 16_384):
        batch = np.ones((BATCH_BYTES // 4 // width, width), np.float32)
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
            folder = Path(name)
            floor = time_plain_write(folder, batch)
            print(f"{len(batch)} items of {width * 4} bytes a batch")
            for what, cost in (
                ("plain write and fsync (floor)", floor),
                ("checksums alone", time_checksums(batch)),
                ("put, 1 node", time_put(folder, batch, 1, 1)),
                ("put, 2 nodes", time_put(folder, batch, 2, 1)),
                ("put, 4 nodes", time_put(folder, batch, 4, 1)),
                ("put, 4 nodes, 2 copies", time_put(folder, batch, 4, 2)),
            ):
                rate = batch.nbytes / cost / 1e6
                print(f"  {what:<32}{rate:8.0f} MB/s   {cost / floor:6.2f} x floor")
            print(f"  {'take, at random':<32}{1e-6 / time_take(folder, width):8.0f} MB/s")


if __name__ == "__main__":
    main()
