"""Training speed, one thread: this engine beside PyTorch and scikit-learn.

    python -m bench.training [--other-python EXE] [--repeats N]

Each contender is a process of its own, PyTorch and scikit-learn under `--other-python` (they
are no dependencies of the project). Repeats are interleaved, so that a slow minute of the
machine meets all alike; the table shows medians, and our figure over theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
RUNS = {"mlp": ("ours", "pytorch", "scikit_learn"), "cnn": ("ours", "pytorch")}
TITLES = {
    "mlp": "MLP 784-256-10, batch 128, SGD with momentum",
    "cnn": "CNN 28x28x1: conv 16, pool, conv 32, pool, dense 10; batch 128",
}


def run(python: str, contender: str, model: str) -> dict[str, float] | None:
    """One contender's figures for one epoch, or None when it is not installed there."""
    root = Path(__file__).parent.parent
    found = subprocess.run(
        [python, "-m", f"bench.contenders.{contender}", model],
        cwd=root,
        env=os.environ | dict.fromkeys(THREADS, "1"),
        capture_output=True,
        text=True,
        check=False,
    )
    if "ModuleNotFoundError" in found.stderr:
        return None
    found.check_returncode()
    figures: dict[str, float] = json.loads(found.stdout)
    return figures


def measure(model: str, pythons: dict[str, str], repeats: int) -> None:
    speeds: dict[str, list[float]] = defaultdict(list)
    losses: dict[str, float] = {}
    for _ in range(repeats):
        for contender in RUNS[model]:
            figures = run(pythons[contender], contender, model)
            if figures is not None:
                speeds[contender].append(figures["samples_per_second"])
                losses[contender] = figures["loss"]
    print(f"\n{TITLES[model]}\n{'':<14}{'samples/s':>12}{'best':>12}{'ours / it':>12}{'loss':>9}")
    ours = statistics.median(speeds["ours"])
    for contender in RUNS[model]:
        if contender not in speeds:
            print(f"{contender:<14}skipped: not installed for {pythons[contender]}")
            continue
        median, best = statistics.median(speeds[contender]), max(speeds[contender])
        print(
            f"{contender:<14}{median:>12,.0f}{best:>12,.0f}{ours / median:>12.2f}"
            f"{losses[contender]:>9.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other-python", default=sys.executable)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    other = given.other_python
    pythons = {"ours": sys.executable, "pytorch": other, "scikit_learn": other}
    for model in RUNS:
        measure(model, pythons, given.repeats)


if __name__ == "__main__":
    main()
