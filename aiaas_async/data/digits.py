"""The digits that come with the package: 1,797 handwritten digits of 8 x 8 pixels.

Source, licence and changes: DIGITS-ATTRIBUTION.md beside this file.
"""

from __future__ import annotations

import gzip
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

_PIXELS = 8 * 8


def load_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images float32 [1797, 8, 8, 1] of 0 to 16 (ink), and labels int64 [1797] of 0 to 9."""
    packed = files(__package__).joinpath("digits.bin.gz").read_bytes()
    rows = np.frombuffer(gzip.decompress(packed), np.uint8).reshape(-1, _PIXELS + 1)
    images = rows[:, :_PIXELS].astype(np.float32).reshape(-1, 8, 8, 1)
    return images, rows[:, _PIXELS].astype(np.int64)
