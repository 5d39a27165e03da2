"""The dtypes of the platform as numpy's: spelled out, because `np.dtype` of a request's text is an
attack surface (4.6 s and 283 MB for a hostile one)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

# Little endian, whatever the machine is. "string" has no fixed size and is not here.
NUMPY: Final[dict[str, np.dtype[Any]]] = {
    "bool": np.dtype("?"),
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "uint64": np.dtype("<u8"),
    "int8": np.dtype("i1"),
    "int16": np.dtype("<i2"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
}
