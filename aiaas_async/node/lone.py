"""Work that runs by itself, never in a batch: what the worker is told to do for it."""

from __future__ import annotations

from aiaas_async.compute.frames import Pieces, whole
from aiaas_async.compute.jobs import Differentiate, Scan, StreamJob
from aiaas_async.node.work import Differentiation, Scanning, StreamStep

Lone = Scanning | Differentiation | StreamStep


def job_of(asked: Lone) -> tuple[Scan | Differentiate | StreamJob, list[Pieces]]:
    """The worker's job, and the arrays that go with it."""
    servable = asked.servable
    match asked:
        case StreamStep():
            return asked.job, whole(asked.arrays)
        case Differentiation():
            job = Differentiate(servable.id, asked.wrt, asked.loss, asked.output)
            return job, whole(asked.arrays)
        case Scanning():
            scan = Scan(
                servable.id,
                asked.files,
                asked.start,
                asked.stop,
                asked.outputs,
                servable.inputs,
                servable.allow_nonfinite,
            )
            return scan, [] if asked.picked is None else [Pieces("rows", (asked.picked,))]
