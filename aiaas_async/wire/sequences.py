"""Sequences: calls that belong together, for versions that keep state from one to the next.

A version asks for them by declaring inputs of these names, each one value a row:

    sequence_id      string, int64 or uint64: whose call it is
    sequence_start   bool or a number: whether it is the first of its sequence (optional)
    sequence_end     the same of the last (optional)

They are the reference server's control inputs. Callers of the Open Inference Protocol send them as
the request's parameters, others as inputs like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from aiaas_async.errors import InputError
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.formats.texts import nul_at_end
from aiaas_async.messages import TensorSpec

Array = NDArray[Any]
ID: Final = "sequence_id"
START: Final = "sequence_start"
END: Final = "sequence_end"
_ID_DTYPES: Final = ("string", "int64", "uint64")
MAX_ID_LENGTH: Final = 128  # characters


class Mark(msgspec.Struct, frozen=True):
    """Which sequence a call belongs to; 0 and "" are none. `start`, `end`: its first, its last."""

    id: int | str = 0
    start: bool = False
    end: bool = False


def is_stateful(specs: Sequence[TensorSpec]) -> bool:
    """Whether a version with these inputs is told of sequences."""
    return any(
        spec.name == ID and spec.dtype in _ID_DTYPES and spec.shape in ((), (1,)) for spec in specs
    )


def split_controls(
    specs: Sequence[TensorSpec],
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs that callers fill, and those that tell of sequences."""
    if not is_stateful(specs):
        return tuple(specs), ()
    plain = tuple(spec for spec in specs if spec.name not in (ID, START, END))
    return plain, tuple(spec for spec in specs if spec.name in (ID, START, END))


def control_arrays(
    controls: Sequence[TensorSpec], mark: Mark, rows: int, model: str
) -> dict[str, Array]:
    """What `rows` rows of a call of `mark` have in the inputs `controls`. Raises `InputError`."""
    if not mark.id:
        raise InputError(
            f"inference request to model '{model}' must specify a non-zero or non-empty "
            "correlation ID"
        )
    values = {ID: mark.id, START: mark.start, END: mark.end}
    return {spec.name: _filled(spec, values[spec.name], rows, model) for spec in controls}


def _filled(spec: TensorSpec, value: int | str, rows: int, model: str) -> Array:
    shape = (rows, *(spec.shape or ()))
    if spec.dtype == "string":
        text = str(value)
        if len(text) > MAX_ID_LENGTH:
            raise InputError(f"the sequence id of model '{model}' has over {MAX_ID_LENGTH} letters")
        if (fault := nul_at_end([text])) is not None:
            raise InputError(f"the sequence ids of model '{model}': {fault}")
        return np.full(shape, text)
    wanted = NUMPY[spec.dtype or ""]
    try:
        return np.full(shape, int(value) if isinstance(value, str) else value, wanted)
    except (ValueError, OverflowError):
        raise InputError(
            f"model '{model}' takes {spec.dtype} sequence ids, got {str(value)[:80]!r}"
        ) from None


def mark_of(arrays: Mapping[str, Array]) -> Mark:
    """The mark of a call of a stateful version. Raises `InputError` unless all rows share one."""
    found = []
    for name in (ID, START, END):
        array = arrays.get(name)
        values = [] if array is None else list(dict.fromkeys(array.ravel().tolist()))
        if len(values) > 1:
            raise InputError(f"the rows of one call must have one {name}; got {values[:5]}")
        found.append(values[0] if values else False)
    if isinstance(found[0], str) and len(found[0]) > MAX_ID_LENGTH:
        raise InputError(f"a sequence_id has {MAX_ID_LENGTH} letters at most, got {len(found[0])}")
    return Mark(found[0], bool(found[1]), bool(found[2]))
