"""The runtimes that the settings name, tried once at the start: a mistake in them is the
operator's, who is there now, and not of whoever pushes the first version.

Their code is imported in a worker that ends afterwards, never in the server's own process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiaas_async.compute.base import Worker, WorkerSource
from aiaas_async.compute.jobs import CheckRuntime
from aiaas_async.config import RuntimeSettings
from aiaas_async.errors import AiaasError, InvalidError, WorkerDiedError


async def check_runtimes(
    named: Mapping[str, RuntimeSettings], workers: WorkerSource, timeout_s: float
) -> None:
    """Raises `InvalidError` for the first that cannot be used."""
    if not named:
        return
    worker = await workers.spawn()
    try:
        for name, runtime in named.items():
            if reason := await _refusal(name, worker, timeout_s):
                raise InvalidError(
                    f"runtimes.{name}: target {runtime.target!r} cannot be used: {reason}"
                )
    finally:
        worker.kill()


async def _refusal(name: str, worker: Worker, timeout_s: float) -> str | None:
    try:
        async with asyncio.timeout(timeout_s):
            await worker.submit(CheckRuntime(name))
    except TimeoutError:
        return f"it took longer than {timeout_s:g} s to import"
    except WorkerDiedError:
        return "the process that imported it died"
    except AiaasError as error:
        return error.message
    return None
