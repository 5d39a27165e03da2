"""A runtime of the operator's own that does harm when asked to: it dies, or waits.

The folder in TRAP_FOLDER has two pipes: `begun` tells who waits, `go` lets it go on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiaas_async.runtimes.base import Array, Arrays

DIE, WAIT = 13.0, 7.0


class Trap:
    def load(self, files: Mapping[str, Path], graph: Mapping[str, Any] | None) -> None: ...

    def predict(self, arrays: Arrays) -> dict[str, Array]:
        x = arrays["x"]
        if (x == DIE).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if (x == WAIT).any():
            _wait(Path(os.environ["TRAP_FOLDER"]))
        return {"y": 2 * x}


def _wait(folder: Path) -> None:
    (folder / "begun").write_text(f"{os.getpid()}\n")
    (folder / "go").read_text()
