"""Which shard folder belongs to which node, and the ring the items were last placed by.

Folder names are hashes: the name of a node never becomes part of a path.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import msgspec

from aiaas_async.data.files import replace, storage, sync_folder, write_at
from aiaas_async.data.placement import Placement
from aiaas_async.data.schema import DatasetSpec
from aiaas_async.errors import CorruptError
from aiaas_async.ring.hashring import Ring


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`shards`: node to folder; `probe`: where the ring's hash puts a fixed key (it tells
    whether the secret is still the same); `fingerprint`: of the placement, empty while items
    move; `copies`: how many each item has at least. Earlier releases did not write that down."""

    shards: dict[str, str]
    probe: str
    fingerprint: str
    copies: int | None = None

    def copies_of(self, replication: int) -> int:
        """How many copies each item of a data set with this replication has at least."""
        if self.copies is not None:
            return self.copies
        return min(replication, len(self.shards)) if self.fingerprint else 1

    def begin(self, path: Path) -> None:
        """Write where there is none; whoever calls makes the name durable. Raises
        `StorageError`."""
        write_at(path, msgspec.json.encode(self), 0)

    def save(self, path: Path) -> None:
        """Write as a whole, durably. Raises `StorageError`."""
        replace(path, msgspec.json.encode(self))


def load(path: Path) -> Layout:
    """Raises `CorruptError` when the file is missing or unreadable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Layout)
    except (OSError, msgspec.MsgspecError) as error:
        raise CorruptError(
            f"data set {path.parent.name}: its layout cannot be read ({type(error).__name__})"
        ) from error


def shard_folder(node: str) -> str:
    """The folder's name for a node: 16 hex digits."""
    return blake2b(node.encode(), digest_size=8, person=b"shard").hexdigest()


def next_folder(node: str) -> str:
    """A fresh name for a folder that is to take another's place."""
    return f"{shard_folder(node)}.{secrets.token_hex(4)}"


def folder_of(node: str, name: str) -> bool:
    """Whether a folder called `name` is one of `node`'s."""
    return name.partition(".")[0] == shard_folder(node)


def sweep(folder: Path, layout: Layout) -> None:
    """Remove the shard folders that no node of the layout has any more."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in layout.shards.values():
            with suppress(FileNotFoundError):  # its last reader may be about to remove it
                shutil.rmtree(path)


def remove(folder: Path) -> None:
    """Remove a data set's folder; once its spec is gone, so is the data set. Raises
    `StorageError`."""
    with storage(folder):
        (folder / "spec.json").unlink(missing_ok=True)
        sync_folder(folder)
        while folder.exists():
            with suppress(FileNotFoundError):  # the last reader of a shard may remove it meanwhile
                shutil.rmtree(folder)


def of(placement: Placement, known: Mapping[str, str]) -> Layout:
    """Shards for the placement's members, in the folders `known`."""
    shards = {node: known.get(node) or shard_folder(node) for node in placement.members}
    return Layout(shards, probe(placement.ring), placement.fingerprint, placement.copies)


def moving(placement: Placement, known: Mapping[str, str], copies: int) -> Layout:
    """While items that have `copies` move to where the placement wants them: shards of nodes that
    come and of those that leave, in the folders `known`."""
    return Layout(dict(known), probe(placement.ring), "", min(copies, placement.copies))


def probe(ring: Ring) -> str:
    """Where a fixed key lies on the ring."""
    return f"{ring.position('probe'):016x}"


def load_spec(folder: Path) -> DatasetSpec:
    """The spec of the data set in `folder`. Raises `CorruptError`."""
    try:
        return msgspec.json.decode((folder / "spec.json").read_bytes(), type=DatasetSpec)
    except (OSError, msgspec.MsgspecError) as error:
        raise CorruptError(
            f"data set {folder.name}: its spec cannot be read ({type(error).__name__})"
        ) from error
