"""A shard's folder that another has replaced stays while somebody reads it.

Views of it hold its lease; when the last one is gone, so is the folder.
"""

from __future__ import annotations

import shutil
import threading
import weakref
from pathlib import Path


class Lease:
    """Whoever holds it may read the files of `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def end(self) -> None:
        """The folder goes with the last one who holds this."""
        weakref.finalize(self, _remove, self._folder)


def _remove(folder: Path) -> None:
    # In a thread: the last holder may be the event loop, and large files take time to go.
    threading.Thread(target=shutil.rmtree, args=(folder, True), name="reclaim").start()
