"""Runtimes of the operator's own that serve as the reference server's example models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aiaas_async.runtimes.base import Array, Arrays


class Echo:
    """Every input x comes back as out_x."""

    def load(self, files: Mapping[str, Path], graph: Mapping[str, Any] | None) -> None: ...

    def predict(self, arrays: Arrays) -> dict[str, Array]:
        return {f"out_{name}": array for name, array in arrays.items()}


class Simple:
    """OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1; of texts, the numbers they spell."""

    def load(self, files: Mapping[str, Path], graph: Mapping[str, Any] | None) -> None: ...

    def predict(self, arrays: Arrays) -> dict[str, Array]:
        one, other = arrays["INPUT0"], arrays["INPUT1"]
        if one.dtype.kind != "U":
            return {"OUTPUT0": one + other, "OUTPUT1": one - other}
        left, right = one.astype(np.int64), other.astype(np.int64)
        return {"OUTPUT0": (left + right).astype(str), "OUTPUT1": (left - right).astype(str)}


class Size:
    """How many values x has, row by row, and how many letters if they are texts."""

    def load(self, files: Mapping[str, Path], graph: Mapping[str, Any] | None) -> None: ...

    def predict(self, arrays: Arrays) -> dict[str, Array]:
        given = arrays["x"]
        letters = given.dtype.itemsize // 4 if given.dtype.kind == "U" else 1
        return {"n": np.full((len(given), 1), given[0].size * letters, np.int64)}


RUNTIMES = {name: f"tests.http.echo:{name.capitalize()}" for name in ("echo", "simple", "size")}


def echo(dtype: str, *shape: int, name: str = "echo", inputs: int = 1) -> dict[str, Any]:
    """Metadata of an echo of x0, x1, …"""
    given = [{"name": f"x{n}", "dtype": dtype, "shape": list(shape)} for n in range(inputs)]
    taken = [{**one, "name": f"out_{one['name']}"} for one in given]
    return {"name": name, "version": "1.0", "runtime": "echo", "inputs": given, "outputs": taken}


def simple(dtype: str, name: str = "simple") -> dict[str, Any]:
    """Metadata of the reference server's `simple`, `simple_string` and `simple_int8`."""
    one = {"dtype": dtype, "shape": [16]}
    return {
        "name": name,
        "version": "1.0",
        "runtime": "simple",
        "inputs": [{"name": "INPUT0", **one}, {"name": "INPUT1", **one}],
        "outputs": [{"name": "OUTPUT0", **one}, {"name": "OUTPUT1", **one}],
    }


def size(dtype: str, name: str) -> dict[str, Any]:
    """Metadata of `Size` of lists of any length."""
    inputs = [{"name": "x", "dtype": dtype, "shape": [-1]}]
    outputs = [{"name": "n", "dtype": "int64", "shape": [1]}]
    return {
        "name": name,
        "version": "1.0",
        "runtime": "size",
        "inputs": inputs,
        "outputs": outputs,
    }
