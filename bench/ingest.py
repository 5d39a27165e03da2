"""Ingest: over HTTP, and what `Dataset.put` costs over writing the same bytes to one file.

python -m bench.ingest [--megabytes M] [--rounds N] [--no-library]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aiaas_async.client import Client
from aiaas_async.data.dataset import Dataset
from aiaas_async.data.items import checksums
from aiaas_async.data.schema import parse_spec
from aiaas_async.ring.hashring import Ring
from aiaas_async.testing import server

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


@dataclass(frozen=True, slots=True)
class Reading:
    """One upload: MB of tensors a second, seconds of CPU of the client and of the server."""

    rate: float
    client: float
    server: float


def time_http(url: str, pid: int, width: int, nbytes: int, *, keyed: bool) -> Reading:
    """`nbytes` of items of `width` float32 over HTTP, by the client as anyone would use it."""
    array = np.ones((nbytes // 4 // width, width), np.float32)
    array[:, 0] = np.arange(len(array))  # no two alike: keys of content would be
    keys = [f"item-{number}" for number in range(len(array))] if keyed else None
    with Client(url, timeout=120) as client:
        client.put_dataset("bench", {"x": {"dtype": "float32", "shape": [width]}})
        clock, own, theirs = time.perf_counter(), time.process_time(), cpu_of(pid)
        report = client.put_items("bench", {"x": array}, keys)
        clock = time.perf_counter() - clock
        own, theirs = time.process_time() - own, cpu_of(pid) - theirs
        assert report["written"] == len(array)
        client.delete_dataset("bench")
    return Reading(array.nbytes / clock / 1e6, own, theirs)


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def over_http(megabytes: int, rounds: int) -> None:
    print(f"over HTTP, client and server on the same cores, {megabytes} MB, median of {rounds}")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name, server(Path(name)) as running:
        for keyed in (True, False):
            for width in (64, 784, 16_384):
                url, pid = running.url, running.process.pid
                found = [
                    time_http(url, pid, width, megabytes * 10**6, keyed=keyed)
                    for _ in range(rounds)
                ]
                rate, own, theirs = (
                    statistics.median(getattr(each, field) for each in found)
                    for field in ("rate", "client", "server")
                )
                what = f"{width * 4} bytes, keys {'given' if keyed else 'of content'}"
                print(
                    f"  {what:<32}{rate:8.0f} MB/s   CPU of the client {own:.2f} s, of the server "
                    f"{theirs:.2f} s",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-library", action="store_true")
    options = parser.parse_args()
    over_http(options.megabytes, options.rounds)
    if not options.no_library:
        library()


def library() -> None:
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
