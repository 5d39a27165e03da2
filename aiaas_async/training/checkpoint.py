"""Checkpoints: a training state as a safetensors file, two of them by turns.

A file is whole or absent (written aside, synced, renamed) and carries a checksum of its content.
Should the newer one be damaged all the same, the older one is taken up.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from aiaas_async.errors import ArtifactError, DivergedError
from aiaas_async.formats.safetensors import map_tensors, read_header, write_tensors
from aiaas_async.nn.layer import Array
from aiaas_async.training.state import Best, State, Tally

logger = logging.getLogger(__name__)

_NAMES: Final = ("checkpoint-0.safetensors", "checkpoint-1.safetensors")
_PROGRESS: Final = "progress"  # JSON as bytes, because a header holds no long history


class _Progress(msgspec.Struct):
    epoch: int
    batch: int
    step: int
    tally: Tally
    best_value: float | None
    best_epoch: int
    history: tuple[dict[str, Any], ...]


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint in `folder`, as its header says; 0: there is none."""
    steps = [0]
    for name in _NAMES:
        if (folder / name).exists():
            with suppress(ArtifactError, ValueError):
                steps.append(int(read_header(folder / name).metadata.get("step", "0")))
    return max(steps)


class Checkpoints:
    """The checkpoints in `folder` of the run that `run_key` stands for; others are not read."""

    def __init__(self, folder: Path, run_key: str) -> None:
        self._folder, self._run_key = folder, run_key
        self._newest: str | None = None

    def save(self, state: State) -> None:
        """Durable when this returns. Raises `StorageError`, and `DivergedError` rather than
        replace a good checkpoint by one that is not finite."""
        tensors = dict(_tensors(state))
        for name, array in tensors.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise DivergedError(f"training diverged: {name} is no longer finite")
        name = _NAMES[0] if self._newest != _NAMES[0] else _NAMES[1]
        facts = {"run": self._run_key, "crc": str(_checksum(tensors)), "step": str(state.step)}
        write_tensors(self._folder / name, tensors, facts)
        self._newest = name

    def latest(self) -> State | None:
        """The newest sound checkpoint of this run, or None."""
        found = [(name, state) for name in _NAMES if (state := self._load(name)) is not None]
        if not found:
            return None
        self._newest, state = max(found, key=lambda each: (each[1].step, each[1].epoch))
        return state

    def _load(self, name: str) -> State | None:
        path = self._folder / name
        if not path.exists():
            return None
        try:
            return self._read(path)
        except (ArtifactError, msgspec.DecodeError, KeyError) as error:
            logger.warning("%s is damaged and not taken up: %s", name, error)
            return None

    def _read(self, path: Path) -> State | None:
        mapped = map_tensors(path)
        if mapped.header.metadata.get("run") != self._run_key:
            return None
        # Copied: this very file is replaced while the state is still in use.
        tensors = {each: array.copy() for each, array in mapped.tensors.items()}
        if mapped.header.metadata.get("crc") != str(_checksum(tensors)):
            raise ArtifactError("its content is not what was written")
        return _state(tensors)


def _tensors(state: State) -> Iterator[tuple[str, Array]]:
    for group, arrays in (("params", state.params), ("slots", state.slots)):
        yield from ((f"{group}/{name}", array) for name, array in arrays.items())
    best = state.best
    if best is not None:
        yield from ((f"best/{name}", array) for name, array in best.params.items())
    progress = _Progress(
        state.epoch,
        state.batch,
        state.step,
        state.tally,
        best.value if best is not None else None,
        best.epoch if best is not None else 0,
        state.history,
    )
    yield _PROGRESS, np.frombuffer(msgspec.json.encode(progress), np.uint8)


def _state(tensors: Mapping[str, Array]) -> State:
    progress = msgspec.json.decode(tensors[_PROGRESS].tobytes(), type=_Progress)
    best = None
    if progress.best_value is not None:
        best = Best(progress.best_value, progress.best_epoch, _group(tensors, "best/"))
    return State(
        params=_group(tensors, "params/"),
        slots=_group(tensors, "slots/"),
        epoch=progress.epoch,
        batch=progress.batch,
        step=progress.step,
        tally=progress.tally,
        best=best,
        history=progress.history,
    )


def _group(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {n.removeprefix(prefix): array for n, array in tensors.items() if n.startswith(prefix)}


def _checksum(tensors: Mapping[str, Array]) -> int:
    """CRC-32 over names, types, shapes and bytes."""
    total = 0
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        total = zlib.crc32(f"{name} {array.dtype.str} {tensors[name].shape};".encode(), total)
        total = zlib.crc32(array.reshape(-1).view(np.uint8).data, total)
    return total
