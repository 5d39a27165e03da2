"""`python -m bench [NAME [ARGUMENT…]…]`: every figure, each beside its floor, or the named ones.

What follows a figure's name and names none itself is passed on: `python -m bench peers prepare`.
"""

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
    "peers": "beside MLServer, LitServe, BentoML, Ray Serve, PyTriton, FastAPI (peers prepare)",
    "overload": "ten times the capacity, open loop: goodput, latency, refusals, recovery",
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
    asked = _asked(sys.argv[1:]) or [[name] for name in FIGURES]
    if asked[0][0] not in FIGURES:
        for name, text in FIGURES.items():
            print(f"{name:12}{text}")
        unknown = asked[0][0]
        sys.exit(0 if unknown == "--help" else f"no figure is called {unknown}")
    packages = ", ".join(f"{p} {version(p)}" for p in ("numpy", "aiohttp", "uvloop", "msgpack"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(packages)
    for name, *arguments in asked:
        print(f"\n== {name}: {FIGURES[name]}", flush=True)
        subprocess.run([sys.executable, "-m", f"bench.{name}", *arguments], check=False)


def _asked(words: list[str]) -> list[list[str]]:
    """Figures with their arguments; what comes before any figure is one by itself."""
    found: list[list[str]] = []
    for word in words:
        if word in FIGURES or not found:
            found.append([word])
        else:
            found[-1].append(word)
    return found


if __name__ == "__main__":
    main()
