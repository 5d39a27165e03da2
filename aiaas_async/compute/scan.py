"""A scan: a model over rows of column files, in passes that stay in the processor's caches.

Items go from the page cache through the model; only results leave the worker, each with its
checksum, so that nothing between here and the disk can change one unnoticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aiaas_async.compute.frames import Array
from aiaas_async.compute.jobs import Scan
from aiaas_async.data.items import checksums
from aiaas_async.data.mapped import map_rows
from aiaas_async.errors import ArtifactError
from aiaas_async.nn.batches import minibatches
from aiaas_async.runtimes.base import Model
from aiaas_async.wire.arrays import read_inputs

CHECKSUMS: Final = ""  # beside the outputs: every output has a name
PASS_ROWS: Final = 384  # 2,000 rows of a 784-256-10 network at once take 1.1 times as long
Rows = slice | NDArray[np.int64]


def scan(model: Model, job: Scan, picked: NDArray[np.int64] | None) -> dict[str, Array]:
    """The outputs [k, ...] of `model` for the rows of `job` (those `picked`, if given), and the
    rows' checksums uint32 [k] under `CHECKSUMS`.

    Raises `InputError` for values that the model does not take, `CorruptError`.
    """
    mapped = {
        each.input: map_rows(Path(each.file), each.column, job.start, job.stop)
        for each in job.files
    }
    count = job.stop - job.start if picked is None else len(picked)
    found: dict[str, Array] = {}
    for at in minibatches(count, PASS_ROWS):
        rows = at if picked is None else picked[at] - job.start
        batch = read_inputs(
            {name: array[rows] for name, array in mapped.items()}, job.specs, job.allow_nonfinite
        )
        _lay(found, at, count, model.predict(batch.arrays, job.outputs))
    return {**found, CHECKSUMS: checksums(found)}


def _lay(found: dict[str, Array], at: slice, count: int, outputs: Mapping[str, Array]) -> None:
    """Put the outputs of one pass in their place among those of all."""
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != at.stop - at.start:
            raise ArtifactError(
                f"output {name!r} has shape {list(array.shape)} for a batch of "
                f"{at.stop - at.start} rows"
            )
        if name not in found:
            found[name] = np.empty((count, *array.shape[1:]), array.dtype)
        if found[name].shape[1:] != array.shape[1:] or found[name].dtype != array.dtype:
            raise ArtifactError(f"output {name!r} changes its shape or type from batch to batch")
        found[name][at] = array
