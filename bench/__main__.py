"""`python -m bench [NAME…]`: every figure, each beside its floor, or the named ones."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import version

FIGURES = {
    "startup": "importing, --help, and the server's readiness",
    "hop": "a hop to a worker and back beside ProcessPoolExecutor",
    "serving": "requests a second beside a bare handler (needs wrk)",
    "loading": "the first answer of a large version, and memory",
    "training": "training beside PyTorch and scikit-learn (needs --torch-python)",
    "split": "a network over two workers: pipeline, tensor split, replicas",
    "batch": "inference over a data set beside a plain loop, and over two nodes",
    "distributed": "distributed training on two nodes beside one",
    "scheduling": "the policies on one skewed workload",
    "ring": "balance, movement and look-ups of the ring",
    "ingest": "data set ingest",
}


def main() -> None:
    asked = sys.argv[1:] or list(FIGURES)
    unknown = [name for name in asked if name not in FIGURES]
    if unknown or "--help" in asked:
        for name, text in FIGURES.items():
            print(f"{name:12}{text}")
        sys.exit(f"no figure is called {unknown[0]}" if unknown and unknown != ["--help"] else 0)
    packages = ", ".join(f"{p} {version(p)}" for p in ("numpy", "aiohttp", "uvloop", "msgpack"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(packages)
    for name in asked:
        print(f"\n== {name}: {FIGURES[name]}", flush=True)
        subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False)


if __name__ == "__main__":
    main()
