"""The signature of a version: what was registered must agree with what the artifact holds.

What one side leaves open (no dtype, no shape, a dimension of -1) the other fills in.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiaas_async.errors import InvalidError
from aiaas_async.messages import TensorSpec

Shape = tuple[int, ...]


def agreed(
    side: str, registered: Sequence[TensorSpec], inspected: Sequence[TensorSpec]
) -> tuple[TensorSpec, ...]:
    """The registered specs, in their order, made whole by the inspected ones.

    Outputs may be some of the artifact's: only those are served. Raises `InvalidError` where the
    two contradict each other. `side` is "inputs" or "outputs".
    """
    held = {spec.name: spec for spec in inspected}
    asked = {spec.name for spec in registered}
    if not (asked <= held.keys() if side == "outputs" else asked == held.keys()):
        raise InvalidError(
            f"{side}: registered are {sorted(s.name for s in registered)}, but the artifact has "
            f"{sorted(held)}; register another version whose {side} bear the artifact's names",
            {"registered": [s.name for s in registered], "artifact": sorted(held)},
        )
    return tuple(_merged(side, spec, held[spec.name]) for spec in registered)


def _merged(side: str, asked: TensorSpec, held: TensorSpec) -> TensorSpec:
    if None not in (asked.dtype, held.dtype) and asked.dtype != held.dtype:
        raise _contradiction(side, asked.name, "dtype", asked.dtype, held.dtype)
    shape = asked.shape if held.shape is None else held.shape
    if asked.shape is not None and held.shape is not None:
        shape = _merged_shape(asked.shape, held.shape)
        if shape is None:
            raise _contradiction(side, asked.name, "shape", list(asked.shape), list(held.shape))
    return TensorSpec(asked.name, asked.dtype or held.dtype, shape)


def _merged_shape(asked: Shape, held: Shape) -> Shape | None:
    if not fits(asked, held):
        return None
    return tuple(a if h == -1 else h for a, h in zip(asked, held, strict=True))


def fits(one: Shape, other: Shape) -> bool:
    """Whether a tensor can have both shapes; -1 is any length."""
    return len(one) == len(other) and all(
        a == b or -1 in (a, b) for a, b in zip(one, other, strict=True)
    )


def _contradiction(side: str, name: str, what: str, asked: object, held: object) -> InvalidError:
    return InvalidError(
        f"{side}: {name} is registered with {what} {asked}, but the artifact has {held}; register "
        f"another version with the artifact's {what}, or with none",
        {"tensor": name, "registered": asked, "artifact": held},
    )
