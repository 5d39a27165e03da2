"""Which column goes to which input, and which outputs become columns: checked before a job runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aiaas_async.data.schema import Column
from aiaas_async.errors import InputError, InvalidError
from aiaas_async.formats.dtypes import NUMPY
from aiaas_async.messages import TensorSpec
from aiaas_async.names import clip
from aiaas_async.wire.arrays import read_inputs


def wire(
    columns: Mapping[str, Column], inputs: Sequence[TensorSpec], asked: Mapping[str, str]
) -> dict[str, str]:
    """The column for each input: `asked` (column → input), else the column of the same name.

    Raises `InvalidError` or `InputError` when columns and inputs do not fit.
    """
    names = [spec.name for spec in inputs]
    for column, name in asked.items():
        if column not in columns:
            raise InvalidError(f"there is no column {clip(column)}; columns: {sorted(columns)}")
        if name not in names:
            raise InvalidError(f"the model has no input {clip(name)}; inputs: {names}")
    if len(set(asked.values())) < len(asked):
        raise InvalidError(f"two columns go to one input: {clip(dict(asked))}")
    wiring: dict[str, str] = {name: column for column, name in asked.items()}
    for name in names:
        if wiring.setdefault(name, name) not in columns:
            raise InvalidError(
                f"no column for input {clip(name)}: say which in 'inputs' ({{column: input}}); "
                f"columns: {sorted(columns)}"
            )
    _check_fit(columns, inputs, wiring)
    return wiring


def _check_fit(
    columns: Mapping[str, Column], inputs: Sequence[TensorSpec], wiring: Mapping[str, str]
) -> None:
    """Read one item of zeros as a task reads many: whatever the values, it must fit."""
    for spec in inputs:
        column = columns[wiring[spec.name]]
        zeros = np.zeros((1, *column.shape), column.numpy)
        if not read_inputs({spec.name: zeros}, [spec]).batched:
            raise InputError(
                f"column {wiring[spec.name]} has items of shape {list(column.shape)}, input "
                f"{spec.name!r} takes {list(spec.shape or ())}"
            )


def result_columns(
    specs: Sequence[TensorSpec], asked: Sequence[str] | None
) -> dict[str, dict[str, Any]]:
    """The columns of the result data set: the outputs `asked` for, or all that it can hold.

    Raises `InvalidError` for an output there is not, or whose items have no fixed size.
    """
    known = {spec.name: spec for spec in specs}
    if asked is None:
        asked = [spec.name for spec in specs if _storable(spec)]
        if not asked:
            raise InvalidError(
                "no output of the model can be stored: a data set holds numbers of a fixed shape, "
                f"and {sorted(known)} are texts or of open length"
            )
    if not asked or len(set(asked)) < len(asked):
        raise InvalidError(
            f"'outputs' must name outputs of numbers, each once; outputs: {sorted(known)}"
        )
    columns: dict[str, dict[str, Any]] = {}
    for name in asked:
        if name not in known:
            raise InvalidError(f"the model has no output {clip(name)}; outputs: {sorted(known)}")
        spec = known[name]
        if not _storable(spec):
            raise InvalidError(
                f"output {clip(name)} is {spec.dtype} {list(spec.shape or ())}: a data set holds "
                "numbers of a fixed shape; leave it out by 'outputs'"
            )
        columns[name] = {"dtype": spec.dtype, "shape": list(spec.shape or ())}
    return columns


def _storable(spec: TensorSpec) -> bool:
    return spec.dtype in NUMPY and spec.shape is not None and all(d > 0 for d in spec.shape)
