"""NaN and infinity in answers. JSON has no such numbers (RFC 8259): null in their place would make
them all alike, so they are refused.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
import numpy as np

from aiaas_async.errors import InputError

_FEW: Final = 32


class Words(msgspec.Struct, frozen=True):
    """What is refused, and what to ask for instead."""

    noun: str
    advice: str


OUTPUT: Final = Words("output", "ask for binary tensors or MessagePack")
VALUE: Final = Words("value", "ask for MessagePack")  # where there are no binary tensors


def check_finite(
    array: np.ndarray[Any, Any] | np.generic, name: str, words: Words = OUTPUT
) -> None:
    """Raise `InputError`, in such `words`, for numbers that JSON has no form of."""
    if array.dtype.kind != "f":
        return
    # Half of what the next takes for one number; a sum may overflow, and then proves nothing.
    if array.size <= _FEW and math.isfinite(sum(array.ravel().tolist())):
        return
    finite = np.isfinite(array)
    if np.count_nonzero(finite) == finite.size:  # a third of what `all` takes for few
        return
    place = np.unravel_index(np.argmin(finite), finite.shape)
    where = f" at {[int(index) for index in place]}" if place else ""
    raise InputError(
        f"{words.noun} '{name}' holds {np.asarray(array)[place]}{where}, and JSON has no such "
        f"number; {words.advice}"
    )
