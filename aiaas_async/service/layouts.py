"""Layouts: the weights of versions once more, in the order in which workers compute with them
fastest.

A worker writes one when a version is committed, or else first used, and all workers map it, so
that nodes share one copy. They are files of this server's life: what is fastest depends on the
machine, and nobody would notice the damage of an old one. A version whose layout cannot be made is
served without.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from pathlib import Path
from typing import Final

import msgspec

from aiaas_async.compute.base import WorkerSource
from aiaas_async.compute.jobs import ArtifactFiles, LayOut
from aiaas_async.errors import AiaasError
from aiaas_async.names import ModelRef

logger = logging.getLogger(__name__)

_RUNTIME: Final = "numpy"  # the one that lays out
_LEAST_BYTES: Final = 1 << 20  # of a version: less is not worth a worker
_TIMEOUT_S: Final = 600.0


class Layouts:
    """Kept in `folder`, which is emptied first; made by `workers`, if any are `wanted`."""

    def __init__(self, folder: Path, workers: WorkerSource, *, wanted: bool = True) -> None:
        self._folder, self._workers, self._wanted = folder, workers, wanted
        self._made: dict[bytes, asyncio.Task[str]] = {}
        self._users: dict[ModelRef, bytes] = {}
        folder.mkdir(mode=0o700, exist_ok=True)
        for leftover in folder.iterdir():
            leftover.unlink()

    def of(self, artifact: ArtifactFiles) -> ArtifactFiles:
        """`artifact` with its layout, if that is made."""
        task = self._made.get(_key(artifact))
        return artifact if task is None else _with(artifact, _found(task))

    async def make(self, ref: ModelRef, artifact: ArtifactFiles, nbytes: int) -> None:
        """Have a layout of `artifact`, the files of `ref`, if there is anything to lay out."""
        if not self._wanted or artifact.runtime != _RUNTIME or nbytes < _LEAST_BYTES:
            return
        key = self._users[ref] = _key(artifact)
        if key not in self._made:
            name = f"layout of {ref}"
            self._made[key] = asyncio.create_task(self._make(ref, artifact), name=name)
        await asyncio.wait([self._made[key]])

    async def forget(self, ref: ModelRef) -> None:
        """`ref` is deleted: so is its layout, unless another version has the same files."""
        key = self._users.pop(ref, None)
        if key is None or key in self._users.values():
            return
        task = self._made.pop(key)
        task.cancel()
        await asyncio.wait([task])
        if path := _found(task):
            await asyncio.to_thread(Path(path).unlink, missing_ok=True)

    async def stop(self) -> None:
        """End those that are being made."""
        for task in self._made.values():
            task.cancel()
            await asyncio.wait([task])

    async def _make(self, ref: ModelRef, artifact: ArtifactFiles) -> str:
        """Its path, or nothing."""
        path = self._folder / secrets.token_hex(16)
        made = False
        try:
            made = await self._order(LayOut(artifact, str(path)))
        except (AiaasError, TimeoutError) as error:
            logger.warning("%s is served slower, its weights as they lie: %s", ref, error)
        finally:
            if not made:
                for left in self._folder.glob(f"{path.name}*"):
                    left.unlink()
        return str(path) if made else ""

    async def _order(self, order: LayOut) -> bool:
        worker = await self._workers.spawn()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return bool((await worker.submit(order)).facts["made"])
        finally:
            worker.kill()


def _found(task: asyncio.Task[str]) -> str:
    """The path of a layout that is made."""
    return task.result() if task.done() and not task.cancelled() else ""


def _with(artifact: ArtifactFiles, path: str) -> ArtifactFiles:
    return msgspec.structs.replace(artifact, laid_out=path) if path else artifact


def _key(artifact: ArtifactFiles) -> bytes:
    """What a layout depends on; files are named by their content."""
    return msgspec.json.encode((sorted(artifact.files.items()), artifact.graph), order="sorted")
