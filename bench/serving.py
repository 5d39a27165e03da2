"""Serving: requests a second beside a bare handler that computes in line (`floor.py`).

    python -m bench.serving [--rounds N] [--seconds S] [--connections C]

Both are driven by wrk (Debian package `wrk`), in turns, so that a slow minute of the machine
meets both; the ratio is that of the medians. CPU is that of all processes of each server.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from aiaas_async.client import Client
from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.testing import server
from bench.bodies import MODELS

# (model, encoding, the floor's decoder, the least our rate may be of the floor's)
CASES = (
    ("small", "msgpack", "msgpack", 0.70),
    ("small", "json", "json", 0.80),
    ("small", "json", "msgspec", None),
    ("image", "msgpack", "msgpack", 0.80),
)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Reading:
    """One run of wrk: requests a second, latencies in ms, CPU us a request."""

    rate: float
    p50: float
    p99: float
    cpu: float
    failed: int


@contextmanager
def floor(folder: Path) -> Iterator[tuple[str, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "bench.floor", str(port), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the floor did not come up")


def prepare(folder: Path) -> None:
    """Weights and request scripts."""
    for name, model in MODELS.items():
        (folder / name).mkdir()
        if model.weights:
            write_tensors(folder / f"{name}.safetensors", model.draw())
            shutil.copy(folder / f"{name}.safetensors", folder / name / "weights.safetensors")
        (folder / name / "graph.json").write_bytes(msgspec.json.encode(model.graph))
    for name, encoding, _, _ in CASES:
        body = folder / f"{name}.{encoding}"
        body.write_bytes(MODELS[name].body(encoding, name))
        body.with_suffix(f".{encoding}.lua").write_text(
            f'local file = io.open("{body}", "rb")\n'
            'wrk.method = "POST"\nwrk.body = file:read("*all")\n'
            f'wrk.headers["Content-Type"] = "application/{encoding}"\n'
        )


def drive(url: str, script: Path, pid: int, seconds: int, connections: int) -> Reading:
    before = cpu_of(pid)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    command += ["--timeout", "60s", "-s", str(script)]
    text = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    spent = cpu_of(pid) - before
    count = int(_found(r"(\d+) requests in", text))
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: (.*)", text)
    failed = int(refused[1]) if refused else 0
    failed += sum(map(int, re.findall(r"\d+", broken[1]))) if broken else 0
    return Reading(
        rate=_found(r"Requests/sec:\s+([\d.]+)", text),
        p50=_milliseconds(r"50%\s+([\d.]+)(us|ms|s)", text),
        p99=_milliseconds(r"99%\s+([\d.]+)(us|ms|s)", text),
        cpu=1e6 * spent / max(1, count),
        failed=failed,
    )


def _found(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"wrk said: {text}")
    return float(found[1])


def _milliseconds(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"wrk said: {text}")
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and all below it."""
    total = 0.0
    children: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = rest.split()
        number = int(head.split()[0])
        children.setdefault(int(fields[1]), []).append(number)
        spent[number] = (int(fields[11]) + int(fields[12])) / _TICKS
    waiting = [pid]
    while waiting:
        number = waiting.pop()
        total += spent.get(number, 0.0)
        waiting += children.get(number, [])
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--nodes", default="0")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        prepare(folder)
        flags = ("--nodes", options.nodes)
        with server(folder / "data", *flags) as ours, floor(folder) as (floor_url, floor_pid):
            with Client(ours.url) as client:
                for name in MODELS:
                    client.push(name, "1", folder / name)
            targets = {"ours": (ours.url, ours.process.pid), "floor": (floor_url, floor_pid)}
            report(folder, targets, options)


def report(folder: Path, targets: dict[str, tuple[str, int]], options: argparse.Namespace) -> None:
    print(
        f"{'case':16}{'':7}{'req/s':>8}{'p50 ms':>8}{'p99 ms':>8}{'CPU us':>8}   ratio (to reach)"
    )
    for name, encoding, decoder, least in CASES:
        script = folder / f"{name}.{encoding}.lua"
        readings: dict[str, list[Reading]] = {who: [] for who in targets}
        for _ in range(options.rounds):
            for who, (url, pid) in targets.items():
                path = "/call" if who == "ours" else f"/{name}/{decoder}"
                readings[who].append(
                    drive(url + path, script, pid, options.seconds, options.connections)
                )
        middle = {who: _median(found) for who, found in readings.items()}
        ratio = middle["ours"].rate / middle["floor"].rate
        for who, m in middle.items():
            reach = f" ({least:.2f})" if least is not None else ""
            said = f"   {ratio:.2f}{reach}" if who == "ours" else ""
            said += f"   {m.failed} FAILED" if m.failed else ""
            print(
                f"{name + ' ' + decoder:16}{who:7}{m.rate:8.0f}{m.p50:8.2f}{m.p99:8.2f}"
                f"{m.cpu:8.0f}{said}"
            )


def _median(found: list[Reading]) -> Reading:
    fields = {
        name: statistics.median(getattr(r, name) for r in found)
        for name in ("rate", "p50", "p99", "cpu")
    }
    return Reading(**fields, failed=sum(r.failed for r in found))


if __name__ == "__main__":
    main()
