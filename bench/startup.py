"""How long things take to begin, beside the imports nobody can do without.

    python -m bench.startup [--rounds N]

Whole processes, in turns; medians in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aiaas_async.testing import server


def python(code: str) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - started

    return run


def help_text() -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "aiaas_async", "--help"], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - started


def serve() -> float:
    """Until the server says that it listens."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with server(Path(folder) / "data", "--nodes", "2", "--log-level", "warning"):
            return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    timed = {
        "import numpy": python("import numpy"),
        "import aiaas_async": python("import aiaas_async"),
        "import numpy, aiohttp": python("import numpy, aiohttp"),
        "aiaas --help": help_text,
        "aiaas serve, ready": serve,
    }
    found: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, run in timed.items():
            found[name].append(run())
    middle = {name: 1000 * statistics.median(times) for name, times in found.items()}
    for name, value in middle.items():
        print(f"{name:24}{value:7.0f} ms")
    for name, floor, most in (
        ("import aiaas_async", "import numpy", 1.2),
        ("aiaas --help", "import numpy, aiohttp", 1.0),
        ("aiaas serve, ready", "import numpy, aiohttp", 3.0),
    ):
        print(f"{name} / {floor}: {middle[name] / middle[floor]:.2f} (at most {most})")


if __name__ == "__main__":
    main()
