"""A text model that writes word by word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from aiaas_async.errors import InputError
from aiaas_async.runtimes.base import Array, Arrays

FAIL: Final = "fail"


class Writer:
    """Repeats the words of `text_input`, `repeat` times."""

    written = 0  # words, over all objects of this process
    closed = 0  # streams that were given up

    def load(self, files: Mapping[str, Path], graph: Mapping[str, Any] | None) -> None: ...

    def predict(self, arrays: Arrays) -> dict[str, Array]:
        rows = zip(arrays["text_input"][:, 0], arrays["repeat"][:, 0], strict=True)
        return {"text_output": np.array([[" ".join([text] * int(n))] for text, n in rows])}

    def stream(self, arrays: Arrays) -> Iterator[dict[str, Array]]:
        words = str(arrays["text_input"][0, 0]).split() * int(arrays["repeat"][0, 0])
        try:
            for word in words:
                if word == FAIL:
                    raise InputError("this word cannot be written")
                type(self).written += 1
                yield {"text_output": np.array([[word]])}
        except GeneratorExit:
            type(self).closed += 1
            raise


RUNTIMES: Final = {"writer": "tests.http.writers:Writer"}
WRITER: Final[dict[str, Any]] = {
    "name": "writer",
    "version": "1",
    "runtime": "writer",
    "inputs": [
        {"name": "text_input", "dtype": "string", "shape": [1]},
        {"name": "repeat", "dtype": "int32", "shape": [1]},
    ],
    "outputs": [{"name": "text_output", "dtype": "string", "shape": [1]}],
}
