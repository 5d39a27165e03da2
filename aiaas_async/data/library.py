"""All data sets of a server, by name; each is opened when it is first asked for.

A damaged one is refused with the reason, and the others serve.
"""

from __future__ import annotations

import difflib
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from aiaas_async.data import layout as layouts
from aiaas_async.data.dataset import Dataset
from aiaas_async.data.files import storage
from aiaas_async.data.schema import DatasetSpec, parse_spec
from aiaas_async.errors import AiaasError, ConflictError, CorruptError, NotFoundError
from aiaas_async.names import clip
from aiaas_async.ring.hashring import Ring

logger = logging.getLogger(__name__)


class Library:
    """Data sets in the folders of `root`, placed by `ring`. Its functions block."""

    def __init__(self, root: Path, ring: Ring) -> None:
        self._root = root
        self._ring = ring
        self._lock = threading.RLock()
        # Held while one is created, or items move: others are read meanwhile.
        self._declaring, self._following = threading.Lock(), threading.Lock()
        self._open: dict[str, Dataset] = {}
        with storage(root):
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.damaged: dict[str, str] = {}
        self._specs: dict[str, DatasetSpec] = {}
        for folder in sorted(root.iterdir()):
            self._admit(folder)

    def _admit(self, folder: Path) -> None:
        if not (folder / "spec.json").exists():
            shutil.rmtree(folder)  # half made or half deleted: never acknowledged as a data set
            return
        try:
            spec = layouts.load_spec(folder)
        except CorruptError as error:
            self.damaged[folder.name] = error.message
        else:
            self._specs[spec.name] = spec

    def specs(self) -> list[DatasetSpec]:
        """What is declared, by name."""
        with self._lock:
            return [self._specs[name] for name in sorted(self._specs)]

    def declare(self, name: str, body: Mapping[str, Any]) -> tuple[Dataset, bool]:
        """Create the data set a body declares (`schema.parse_spec`), or find the same one.

        The flag says whether it is new. Raises `InvalidError`, and `ConflictError` when the
        name is taken by one with other columns or another replication.
        """
        spec = parse_spec(name, secrets.token_hex(8), body, time.time())
        with self._declaring:
            with self._lock:
                if name in self._specs:
                    return self._same(spec), False
            return self._create(spec), True

    def _same(self, asked: DatasetSpec) -> Dataset:
        known = self._specs[asked.name]
        if (known.columns, known.replication) != (asked.columns, asked.replication):
            raise ConflictError(
                f"data set {asked.name} exists with other columns or replication; delete it first, "
                "or choose another name",
                {"declared": msgspec.to_builtins(known)},
            )
        return self.get(asked.name)

    def _create(self, spec: DatasetSpec) -> Dataset:
        ring, folder = self._ring, self._root / spec.id
        try:
            dataset = Dataset.create(folder, spec, ring)
            with self._lock:
                if self._ring is not ring:  # a node came or went meanwhile
                    dataset.rebalance(self._ring)
                self._open[spec.name], self._specs[spec.name] = dataset, spec
        except BaseException:
            layouts.remove(folder)  # or a restart would find what nobody was told of
            raise
        return dataset

    def get(self, name: str) -> Dataset:
        """Raises `NotFoundError`, or `CorruptError` saying what is damaged."""
        with self._lock:
            self._check_known(name)
            if name not in self._open:
                folder = self._root / self._specs[name].id
                self._open[name] = Dataset.open(folder, self._ring)
                for node, damage in self._open[name].lost.items():
                    logger.warning(
                        "data set %s: what node %s held was lost and is copied anew: %s",
                        *(name, node, damage.message),
                    )
            return self._open[name]

    def _check_known(self, name: str) -> None:
        if name in self._specs:
            return
        near = difflib.get_close_matches(name[:80], self._specs, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {len(self._specs)}"
        raise NotFoundError(f"no data set is called {clip(name)}; {hint}")

    def delete(self, name: str, *, only_empty: bool = False) -> None:
        """Remove a data set and its files; a damaged one too. Raises `NotFoundError`, and
        `ConflictError` for one that has items where it was to be empty."""
        with self._lock:
            self._check_known(name)
            opened = self.get(name) if only_empty else self._open.get(name)
            if opened is None:
                layouts.remove(self._root / self._specs[name].id)
                del self._specs[name]
                return
        try:
            opened.remove(only_empty=only_empty)  # waits for a change under way; others do not
        finally:
            with self._lock:
                if opened.removed and self._open.get(name) is opened:
                    del self._specs[name], self._open[name]

    def follow(self, ring: Ring) -> int:
        """Move items to where `ring` wants them; how many copies moved. Meanwhile data sets are
        read, created and deleted as ever.

        Each follows for itself; one that cannot stays where it is, and is logged. When all others
        have followed, the first error is raised that is not damage which every look at the data
        set tells of; its details have the `copies` that moved.
        """
        with self._following:
            failures = list(self._open_all())  # while the ring is the old one: that moves nothing
            with self._lock:
                self._ring, opened = ring, list(self._open.values())
            moved = 0
            for dataset in opened:
                try:
                    moved += dataset.rebalance(ring)
                except NotFoundError:  # it is being deleted
                    continue
                except Exception as error:  # of whatever kind: the others follow
                    failures.append(_told(dataset.spec.name, error))
            if failures:
                raise _with_copies(failures[0], moved)
            return moved

    def _open_all(self) -> Iterator[Exception]:
        """Open every data set; what keeps one from that, damage aside."""
        for spec in self.specs():
            try:
                self.get(spec.name)
            except NotFoundError:  # it was deleted meanwhile
                continue
            except ConflictError as error:  # it is damaged, or was placed under another secret
                _told(spec.name, error)
            except Exception as error:
                yield _told(spec.name, error)

    def __repr__(self) -> str:
        return f"<Library of {len(self._specs)} data sets, {len(self._open)} open>"


def _told(name: str, error: Exception) -> Exception:
    defect = not isinstance(error, AiaasError)
    logger.error("data set %s could not follow the ring: %s", name, error, exc_info=defect)
    return error


def _with_copies(error: Exception, moved: int) -> Exception:
    if isinstance(error, AiaasError):
        error.details["copies"] = moved
    return error
