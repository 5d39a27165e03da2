"""The bare kernel: rows a second of the 4x4096 network at batch 32, on both cores, no server.

`kernel.py SECONDS` prints the rate. One process with as many BLAS threads as there are cores.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from served import load


def main() -> None:
    seconds = float(sys.argv[1])
    model = load("large")
    x = np.random.default_rng(1).standard_normal((32, 4096)).astype(np.float32)
    model(x)
    start, batches = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        model(x)
        batches += 1
    print(32 * batches / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
