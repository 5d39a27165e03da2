"""Layouts: the weights of versions once more, in the order in which this machine computes with them
fastest.

A worker writes one when a version is committed, or else first used, and all workers map it, so
that nodes share one copy. They are files of this server's life: what is fastest depends on the
machine, and nobody would notice the damage of an old one. Nothing needs them: a version without
its layout, for whatever reason, is served more slowly.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from aiaas_async.compute.base import WorkerSource
from aiaas_async.compute.jobs import ArtifactFiles, LayOut
from aiaas_async.errors import AiaasError, StorageError
from aiaas_async.names import ModelRef

logger = logging.getLogger(__name__)

_RUNTIME: Final = "numpy"  # the one that lays out: no other needs to be asked
_LEAST_BYTES: Final = 1 << 20  # of a version: less is not worth a worker
_LEFT_FREE: Final = 0.1  # of the disk
_NICE: Final = 10  # calls go first
_TIMEOUT_S: Final = 600.0


class Layouts:
    """Kept in `folder`, which begins empty; made by `workers`, one after the other. Of none that
    is not `wanted`."""

    def __init__(self, folder: Path, workers: WorkerSource, *, wanted: bool = True) -> None:
        self._folder, self._workers = folder, workers
        self._made: dict[bytes, asyncio.Task[str]] = {}
        self._users: dict[ModelRef, bytes] = {}
        self._turn = asyncio.Lock()
        self._wanted = wanted and self._cleared()

    def _cleared(self) -> bool:
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            self._folder.mkdir(mode=0o700)
        except OSError as error:
            logger.warning("weights are served as they lie: no folder for others: %s", error)
            return False
        return True

    @property
    def nbytes(self) -> int:
        """Of those that are made."""
        paths = [Path(path) for task in self._made.values() if (path := _found(task))]
        return sum(path.stat().st_size for path in paths if path.exists())

    def of(self, artifact: ArtifactFiles) -> ArtifactFiles:
        """`artifact` with its layout, if that is made."""
        task = self._made.get(_key(artifact))
        path = "" if task is None else _found(task)
        return msgspec.structs.replace(artifact, laid_out=path) if path else artifact

    def begin(
        self, ref: ModelRef, artifact: ArtifactFiles, nbytes: int
    ) -> asyncio.Task[str] | None:
        """Have a layout of `artifact`, the files of the committed version `ref`, made unless it is.
        None: there is nothing to lay out."""
        if not self._wanted or artifact.runtime != _RUNTIME or nbytes < _LEAST_BYTES:
            return None
        key = self._users[ref] = _key(artifact)
        if key not in self._made:
            making = self._make(key, ref, artifact, nbytes)
            self._made[key] = asyncio.create_task(making, name=f"layout of {ref}")
        return self._made[key]

    async def forget(self, ref: ModelRef) -> None:
        """`ref` is deleted: so is its layout, unless another version has the same files."""
        key = self._users.pop(ref, None)
        if key is None or key in self._users.values() or key not in self._made:
            return
        task = self._made.pop(key)
        task.cancel()
        await asyncio.wait([task])
        if path := _found(task):
            await asyncio.to_thread(_remove, path)

    async def stop(self) -> None:
        """Make no more, and leave nothing."""
        self._wanted = False
        tasks = list(self._made.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _make(self, key: bytes, ref: ModelRef, artifact: ArtifactFiles, nbytes: int) -> str:
        """Its path; nothing where nothing is to be laid out, or where it failed: then the next who
        wants one tries again."""
        order = LayOut(artifact, str(self._folder / secrets.token_hex(16)))
        made = failed = False
        try:
            async with self._turn:
                self._check_room(nbytes)
                made = await self._carried_out(order)
        except (AiaasError, OSError, TimeoutError) as error:
            failed = True
            logger.warning("the weights of %s are served as they lie: %s", ref, error)
        except Exception:
            failed = True
            logger.exception("the weights of %s are served as they lie", ref)
        finally:
            if not made:
                await asyncio.to_thread(_remove, order.path)
            if failed:
                self._made.pop(key, None)
        return order.path if made else ""

    def _check_room(self, nbytes: int) -> None:
        disk = shutil.disk_usage(self._folder)
        if disk.free - nbytes < _LEFT_FREE * disk.total:
            raise StorageError("the disk is nearly full")

    async def _carried_out(self, order: LayOut) -> bool:
        worker = await self._workers.spawn(_NICE)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return bool((await worker.submit(order)).facts["made"])
        finally:
            worker.kill()


def _remove(path: str) -> None:
    """The layout at `path`, and what a worker left that was killed."""
    for each in Path(path).parent.glob(f"{Path(path).name}*"):
        with suppress(OSError):
            each.unlink()


def _found(task: asyncio.Task[str]) -> str:
    """The path of a layout that is made."""
    return task.result() if task.done() and not task.cancelled() else ""


def _key(artifact: ArtifactFiles) -> bytes:
    """What a layout depends on; files are named by their content."""
    return msgspec.json.encode((sorted(artifact.files.items()), artifact.graph), order="sorted")
