"""The items of a training run: which columns go where, and who is kept back for validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from aiaas_async.data.schema import Column
from aiaas_async.errors import InvalidError
from aiaas_async.messages import TensorSpec
from aiaas_async.names import clip
from aiaas_async.nn.batches import epoch_order
from aiaas_async.nn.graph import near
from aiaas_async.nn.network import Network
from aiaas_async.training.plan import TrainingPlan

Array = NDArray[Any]
Indices = NDArray[np.int64]
# Keys the order of the split; epochs count from 0 and never come here (`batches.epoch_order`).
_SPLIT_EPOCH: Final = 2**64 - 1
# Up to this size all items are read once: a batch of 32 small images is then gathered in 2 to 4 us
# against 18 to 23 from two shards, and the worker's budget does not feel it.
_KEPT_BYTES: Final = 64 * 2**20


class Items(Protocol):
    """What is needed of `data/source.py`."""

    @property
    def columns(self) -> Mapping[str, Column]: ...

    def __len__(self) -> int: ...

    def take(self, indices: Indices) -> dict[str, Array]: ...


@dataclass(frozen=True, slots=True)
class Wiring:
    """`inputs`: graph input → column; `target`: the column of targets."""

    inputs: Mapping[str, str]
    target: str

    def split(self, columns: Mapping[str, Array]) -> tuple[dict[str, Array], Array]:
        """(the graph's inputs, the targets) of a batch."""
        return {name: columns[column] for name, column in self.inputs.items()}, columns[self.target]


@dataclass(frozen=True, slots=True)
class Split:
    """Numbers of the items to train on and of those kept back, each in ascending order."""

    train: Indices
    validation: Indices


class Kept:
    """Items read into memory once."""

    def __init__(self, items: Items) -> None:
        self.columns = items.columns
        self._count = len(items)
        self._arrays = items.take(np.arange(len(items)))

    def __len__(self) -> int:
        return self._count

    def take(self, indices: Indices) -> dict[str, Array]:
        return {name: array.take(indices, axis=0) for name, array in self._arrays.items()}


def kept_if_small(items: Items) -> Items:
    each = sum(column.nbytes for column in items.columns.values())
    return Kept(items) if each * len(items) <= _KEPT_BYTES else items


def split_items(count: int, plan: TrainingPlan) -> Split:
    """A share of `plan.validation`, drawn by the seed alone. Raises `InvalidError` when too few."""
    back = round(count * plan.validation)
    if plan.validation and count > 1:
        back = min(max(1, back), count - 1)
    if count - back < 1 or (plan.validation and not back):
        raise InvalidError(
            f"the data set has {count} items: too few to train on with validation {plan.validation}"
        )
    order = epoch_order(count, plan.seed, _SPLIT_EPOCH)
    return Split(np.sort(order[back:]), np.sort(order[:back]))


def wire(network: Network, columns: Mapping[str, Column], plan: TrainingPlan) -> Wiring:
    """Which column feeds which input. Raises `InvalidError` naming what does not fit."""
    specs = {spec.name: spec for spec in network.inputs}
    for column, name in plan.inputs.items():
        if column not in columns:
            raise InvalidError(
                f"plan.inputs: the data set has no column {clip(column)}{near(column, columns)}"
            )
        if name not in specs:
            raise InvalidError(
                f"plan.inputs: the graph has no input {clip(name)}{near(name, specs)}"
            )
    fed = {name: column for column, name in plan.inputs.items()}
    for name in specs:
        if name not in fed and name not in columns:
            raise InvalidError(
                f"no column feeds the graph's input {name!r}; the data set has "
                f"{clip(sorted(columns))}: say which in plan.inputs, {{column: input}}"
            )
    wiring = {name: fed.get(name, name) for name in specs}
    for name, column in wiring.items():
        _check_fit(specs[name], column, columns[column])
    return Wiring(wiring, _target(plan, columns, wiring))


def _target(plan: TrainingPlan, columns: Mapping[str, Column], wiring: Mapping[str, str]) -> str:
    if plan.target is not None:
        if plan.target not in columns:
            hint = near(plan.target, columns)
            raise InvalidError(f"plan.target: the data set has no column {clip(plan.target)}{hint}")
        return plan.target
    left = sorted(set(columns) - set(wiring.values()))
    if len(left) != 1:
        raise InvalidError(
            f"which column is the target? No input reads {clip(left)}: name it in plan.target"
        )
    return left[0]


def _check_fit(spec: TensorSpec, name: str, column: Column) -> None:
    shape = spec.shape or ()
    fits = len(shape) == len(column.shape) and all(
        wanted in (-1, size) for wanted, size in zip(shape, column.shape, strict=True)
    )
    if not fits:
        raise InvalidError(
            f"column {name!r} holds {column.dtype} {list(column.shape)}; the graph's input "
            f"{spec.name!r} takes {spec.dtype} {list(shape)}"
        )
    floats = column.dtype.startswith("float")
    if floats and not (spec.dtype or "").startswith("float"):
        raise InvalidError(
            f"column {name!r} holds {column.dtype}; the graph's input {spec.name!r} takes "
            f"{spec.dtype}"
        )
