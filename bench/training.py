"""Speed of the numeric engine, one thread, beside PyTorch, scikit-learn and onnxruntime.

    python -m bench.training [--other-python EXE] [--onnx-python EXE] [--repeats N] [--write]

Training an MLP and a small CNN, and computing EfficientNet-Lite0 image by image. Each contender
is a process of its own, under an interpreter that has it (none is a dependency of the project).
Rounds are interleaved, so that a slow minute of the machine meets all alike; a ratio is the
median over the rounds of our rate to theirs in the same round. `--write` keeps the tables in
`bench/results/training.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "training.md"
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
# Model: (title, {contender: the ratio to reach, None where there is none})
RUNS: dict[str, tuple[str, dict[str, float | None]]] = {
    "mlp": (
        "Training: MLP 784-256-10, batch 128, SGD with momentum",
        {"ours": None, "pytorch": 1.2, "scikit_learn": 1.2},
    ),
    "cnn": (
        "Training: CNN 28x28x1, conv 16, pool, conv 32, pool, dense 10; batch 128",
        {"ours": None, "pytorch": 0.8},
    ),
    "lite0": (
        "Prediction: EfficientNet-Lite0, 224x224x3, one image at a time",
        {"ours": None, "pytorch": None, "onnx_runtime": 1 / 1.7},
    ),
}
Figures = dict[str, Any]


def run(python: str, contender: str, model: str) -> Figures | None:
    """One contender's figures for one round, or None when it is not installed there."""
    found = subprocess.run(
        [python, "-m", f"bench.contenders.{contender}", model],
        cwd=ROOT,
        env=os.environ | dict.fromkeys(THREADS, "1"),
        capture_output=True,
        text=True,
        check=False,
    )
    if "ModuleNotFoundError" in found.stderr:
        return None
    found.check_returncode()
    figures: Figures = json.loads(found.stdout)
    return figures


def measure(model: str, pythons: Mapping[str, str], repeats: int) -> dict[str, list[Figures]]:
    """Each installed contender's figures, a round at a time."""
    rounds: dict[str, list[Figures]] = defaultdict(list)
    for _ in range(repeats):
        for contender in RUNS[model][1]:
            figures = run(pythons[contender], contender, model)
            if figures is not None:
                rounds[contender].append(figures)
    return rounds


def table(model: str, rounds: Mapping[str, list[Figures]]) -> str:
    """The rounds of one model as a Markdown table."""
    title, floors = RUNS[model]
    lines = [
        f"## {title}",
        "",
        "| | items/s, median | best | ours / it | rounds | to reach | loss |",
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    ours = rates(rounds["ours"])
    for contender, floor in floors.items():
        if contender not in rounds:
            lines.append(f"| {contender} | not installed | | | | | |")
            continue
        theirs, last = rates(rounds[contender]), rounds[contender][-1]
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        cells = [
            f"{contender} ({last['version']})",
            f"{statistics.median(theirs):,.0f}",
            f"{max(theirs):,.0f}",
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
            "" if floor is None else f"{floor:.2f}",
            f"{last['loss']:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rates(rounds: list[Figures]) -> list[float]:
    return [figures["samples_per_second"] for figures in rounds]


def machine() -> str:
    """What it ran on, in a line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    load = f"load average {os.getloadavg()[0]:.1f} at the start"
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{name}, {os.cpu_count()} cores, {system}; {load}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other-python", default=sys.executable, help="has PyTorch, scikit-learn")
    parser.add_argument("--onnx-python", default=sys.executable, help="has onnx, onnxruntime")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=f"to {RESULTS.relative_to(ROOT)}")
    given = parser.parse_args()
    other = given.other_python
    pythons = {"ours": sys.executable, "pytorch": other, "scikit_learn": other}
    pythons["onnx_runtime"] = given.onnx_python
    where, tables = machine(), []
    for model in RUNS:
        tables.append(table(model, measure(model, pythons, given.repeats)))
        print(f"\n{tables[-1]}", flush=True)
    if given.write:
        head = (
            "# The numeric engine's speed, one thread\n\n"
            f"`python -m bench.training`, {given.repeats} interleaved rounds, rates per second of "
            f"processor time; {where}.\n\n"
            "Contenders start from the same parameters and meet the same batches; scikit-learn "
            "alone draws its own, and its loss is the epoch's mean, the others' the last batch's.\n"
        )
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join([head, *tables]), encoding="utf-8")


if __name__ == "__main__":
    main()
