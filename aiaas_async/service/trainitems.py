"""The items of a training job: those it was accepted with, wherever they lie when it runs.

From acceptance to the end of a job, compactions, nodes that come and go, and restarts may take
away the folders that its manifest names; items that were put since are none of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from aiaas_async.data.source import Source
from aiaas_async.errors import ConflictError, CorruptError
from aiaas_async.service.datasets import Datasets

logger = logging.getLogger(__name__)


async def items_of(datasets: Datasets, job_id: str, request: Mapping[str, Any]) -> Source:
    """To be held while the job runs: then the files stay.

    Raises `NotFoundError` when the data set is gone, `ConflictError` when the items are.
    """
    manifest, wanted = request["_manifest"], request["dataset_digest"]
    now = await datasets.source(request["dataset"])
    # With each change of where items lie, some folder or its length becomes another.
    if now.manifest() == manifest or await asyncio.to_thread(now.digest) == wanted:
        return now
    then = await asyncio.to_thread(_opened, manifest)
    if then is None or await asyncio.to_thread(then.digest) != wanted:
        raise ConflictError(
            f"data set {request['dataset']} has changed since job {job_id} was accepted, and the "
            "files it had then are gone; start it anew, from its parent or its graph"
        )
    return then


def _opened(manifest: Mapping[str, Any]) -> Source | None:
    try:
        return Source.open(manifest)
    except CorruptError as error:
        logger.info("what a training job was accepted with is gone: %s", error.message)
        return None
