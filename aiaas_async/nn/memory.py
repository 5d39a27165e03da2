"""Keep freed memory in the process, where arrays of the same sizes are wanted again at once.

Each pass frees its arrays, and glibc hands what lies at the top of the heap back to the kernel,
which must fault and clear it page by page in the next pass. Measured on a small convolutional
network: 250,000 page faults in 3,000 samples, and training at 0.56 of the speed.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3
_LARGEST_MMAP_THRESHOLD: Final = 32 * 1024 * 1024  # glibc takes no more


def keep_freed_memory(nbytes: int = 256 * 1024 * 1024, largest: int = 2**25) -> bool:
    """Let this process keep up to `nbytes` at the top of its heap when they are freed; arrays of
    `largest` bytes (32 MiB at most) and more still go back.

    Once, at its start. False where the allocator is not glibc's.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    kept = mallopt(_M_TRIM_THRESHOLD, min(nbytes, 2**31 - 1))
    return bool(kept and mallopt(_M_MMAP_THRESHOLD, min(largest, _LARGEST_MMAP_THRESHOLD)))
