"""The reference server's seven example models, as runtimes of one's own and their metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from aiaas_async.errors import InputError
from aiaas_async.runtimes.base import Array, Arrays
from tests.http.echo import RUNTIMES as ECHOES
from tests.http.echo import simple


class _Stateful:
    def load(self, files: Mapping[str, Path], graph: Mapping[str, Any] | None) -> None: ...


class Identity(_Stateful):
    """OUTPUT0 is INPUT0."""

    def predict(self, arrays: Arrays) -> dict[str, Array]:
        return {"OUTPUT0": arrays["INPUT0"]}


class Started(_Stateful):
    """OUTPUT is INPUT, one more on the first call of a sequence."""

    def predict(self, arrays: Arrays) -> dict[str, Array]:
        return {"OUTPUT": arrays["INPUT"] + arrays["sequence_start"][:, None]}


class Marked(_Stateful):
    """As `Started`, and on the last call the sequence's id more."""

    def predict(self, arrays: Arrays) -> dict[str, Array]:
        last = np.where(arrays["sequence_end"], arrays["sequence_id"], 0)
        more = arrays["sequence_start"] + last.astype(np.int32)
        return {"OUTPUT": arrays["INPUT"] + more[:, None]}


class Accumulator(_Stateful):
    """OUTPUT is the sum of a sequence so far; on the last call its id, a number in a text, more."""

    def __init__(self) -> None:
        self.sums: dict[str, int] = {}

    def predict(self, arrays: Arrays) -> dict[str, Array]:
        rows = zip(
            arrays["INPUT"][:, 0].tolist(),
            arrays["sequence_id"].tolist(),
            arrays["sequence_start"].tolist(),
            arrays["sequence_end"].tolist(),
            strict=True,
        )
        sums = np.array([[self.add(*row)] for row in rows])
        return {"OUTPUT": sums.astype(np.int32)}  # what is too large wraps, as in C

    def add(self, value: int, sequence: str, start: bool, end: bool) -> int:
        if start:
            self.sums[sequence] = 0
        if sequence not in self.sums:
            raise InputError(f"sequence {sequence!r} has not begun")
        self.sums[sequence] += value
        return self.sums.pop(sequence) + int(sequence) if end else self.sums[sequence]


_HERE: Final = "tests.http.examples"
RUNTIMES: Final = {
    **ECHOES,
    "identity": f"{_HERE}:Identity",
    "started": f"{_HERE}:Started",
    "marked": f"{_HERE}:Marked",
    "accumulator": f"{_HERE}:Accumulator",
}


def stateful(name: str, runtime: str, id_dtype: str) -> dict[str, Any]:
    """Metadata of a sequence model."""
    controls = {"sequence_id": id_dtype, "sequence_start": "bool", "sequence_end": "bool"}
    return {
        "name": name,
        "version": "1",
        "runtime": runtime,
        "inputs": [
            {"name": "INPUT", "dtype": "int32", "shape": [1]},
            *({"name": each, "dtype": dtype, "shape": []} for each, dtype in controls.items()),
        ],
        "outputs": [{"name": "OUTPUT", "dtype": "int32", "shape": [1]}],
    }


def identity() -> dict[str, Any]:
    """Metadata of `simple_identity`."""
    texts = {"dtype": "string", "shape": [-1]}
    return {
        "name": "simple_identity",
        "version": "1",
        "runtime": "identity",
        "inputs": [{"name": "INPUT0", **texts}],
        "outputs": [{"name": "OUTPUT0", **texts}],
    }


EXAMPLES: Final = (
    {**simple("int32"), "version": "1"},
    {**simple("string", "simple_string"), "version": "1"},
    identity(),
    {**simple("int8", "simple_int8"), "version": "1"},
    stateful("simple_sequence", "started", "string"),
    stateful("simple_dyna_sequence", "marked", "uint64"),
    stateful("simple_string_dyna_sequence", "accumulator", "string"),
)
