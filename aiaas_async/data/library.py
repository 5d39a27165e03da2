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
from contextlib import contextmanager
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


class _Entry:
    """A declared data set, `dataset` once it is open. Who opens or deletes it holds `lock`."""

    def __init__(self, spec: DatasetSpec, dataset: Dataset | None = None) -> None:
        self.spec = spec
        self.dataset = dataset
        self.lock = threading.Lock()


class Library:
    """Data sets in the folders of `root`, placed by `ring`. Its functions block."""

    def __init__(self, root: Path, ring: Ring) -> None:
        self._root = root
        self._ring = ring
        self._lock = threading.Lock()  # for a moment, to look or to enter
        # Held while one is created, or items move: others are read meanwhile.
        self._declaring, self._following = threading.Lock(), threading.Lock()
        with storage(root):
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.damaged: dict[str, str] = {}
        self._entries: dict[str, _Entry] = {}
        for folder in sorted(root.iterdir()):
            self._admit(folder)

    def _admit(self, folder: Path) -> None:
        if (folder / "spec.json").exists():
            try:
                spec = layouts.load_spec(folder)
            except CorruptError as error:
                self.damaged[folder.name] = error.message
            else:
                self._entries[spec.name] = _Entry(spec)
        elif folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)  # half made or half deleted: never acknowledged as a data set
        else:
            logger.warning("%s among the data sets is none, and is left alone", folder.name)

    def specs(self) -> list[DatasetSpec]:
        """What is declared, by name."""
        with self._lock:
            return [self._entries[name].spec for name in sorted(self._entries)]

    def declare(self, name: str, body: Mapping[str, Any]) -> tuple[Dataset, bool]:
        """Create the data set a body declares (`schema.parse_spec`), or find the same one.

        The flag says whether it is new. Raises `InvalidError`, and `ConflictError` when the
        name is taken by one with other columns or another replication; `NotFoundError` when that
        one is being deleted.
        """
        spec = parse_spec(name, secrets.token_hex(8), body, time.time())
        with self._declaring:
            with self._lock:
                known = self._entries.get(name)
            if known is None:
                return self._create(spec), True
        return self._same(known.spec, spec), False

    def _same(self, known: DatasetSpec, asked: DatasetSpec) -> Dataset:
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
            while (now := self._entered(dataset, ring)) is not ring:
                dataset.rebalance(now)
                ring = now
        except BaseException:
            layouts.remove(folder)  # or a restart would find what nobody was told of
            raise
        return dataset

    def _entered(self, dataset: Dataset, ring: Ring) -> Ring:
        """Enter a new data set that `ring` has placed, unless a node came or went meanwhile; the
        ring as it is now."""
        with self._lock:
            if self._ring is ring:  # or else nobody would let it follow
                self._entries[dataset.spec.name] = _Entry(dataset.spec, dataset)
            return self._ring

    def opened(self, name: str) -> Dataset | None:
        """The data set, if it is open. Does not block."""
        with self._lock:
            entry = self._entries.get(name)
        return None if entry is None else entry.dataset

    def get(self, name: str) -> Dataset:
        """Opened when it is first asked for: meanwhile others are read. Raises `NotFoundError`, or
        `CorruptError` saying what is damaged."""
        if (opened := self._entry(name).dataset) is not None:
            return opened
        with self._held(name) as entry:
            return entry.dataset or self._open(entry)

    def _entry(self, name: str) -> _Entry:
        with self._lock:
            if (entry := self._entries.get(name)) is not None:
                return entry
            known = list(self._entries)
        near = difflib.get_close_matches(name[:80], known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {len(known)}"
        raise NotFoundError(f"no data set is called {clip(name)}; {hint}")

    @contextmanager
    def _held(self, name: str) -> Iterator[_Entry]:
        """The entry, while nobody else opens or deletes it."""
        entry = self._entry(name)
        with entry.lock:
            if self._entries.get(name) is not entry:
                raise NotFoundError(f"data set {name} was deleted meanwhile")
            yield entry

    def _open(self, entry: _Entry) -> Dataset:
        while True:
            ring = self._ring
            dataset = Dataset.open(self._root / entry.spec.id, ring)
            _tell_of(dataset)
            with self._lock:
                if self._ring is ring:  # or else nobody would let it follow
                    entry.dataset = dataset
                    return dataset

    def delete(self, name: str, *, only_empty: bool = False) -> None:
        """Remove a data set and its files; a damaged one too. Raises `NotFoundError`, and
        `ConflictError` for one that has items where it was to be empty."""
        with self._held(name) as entry:
            folder = self._root / entry.spec.id
            dataset = entry.dataset or (self._open(entry) if only_empty else None)
            try:
                if dataset is None:
                    layouts.remove(folder)
                else:
                    dataset.remove(only_empty=only_empty)  # waits for a change under way
            finally:
                if not (folder / "spec.json").exists():
                    with self._lock:
                        del self._entries[name]

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
                self._ring, entries = ring, list(self._entries.values())
            moved = 0
            for dataset in (entry.dataset for entry in entries if entry.dataset):
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
        opened = sum(entry.dataset is not None for entry in self._entries.values())
        return f"<Library of {len(self._entries)} data sets, {opened} open>"


def _tell_of(dataset: Dataset) -> None:
    for node, damage in dataset.lost.items():
        logger.warning(
            "data set %s: what node %s held was lost and is copied anew: %s",
            *(dataset.spec.name, node, damage.message),
        )
    if dataset.unmoved is not None:
        logger.error(
            "data set %s: items are read where they are; they move to where they belong before the "
            "next change of it or of the ring, as this time they could not: %s",
            *(dataset.spec.name, dataset.unmoved.message),
        )


def _told(name: str, error: Exception) -> Exception:
    defect = not isinstance(error, AiaasError)
    logger.error("data set %s could not follow the ring: %s", name, error, exc_info=defect)
    return error


def _with_copies(error: Exception, moved: int) -> Exception:
    if isinstance(error, AiaasError):
        error.details["copies"] = moved
    return error
