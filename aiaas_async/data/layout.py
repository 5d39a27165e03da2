"""Which shard folder belongs to which node, and the ring the items were last placed by.

Folder names are hashes: the name of a node never becomes part of a path.
"""

from __future__ import annotations

import shutil
from hashlib import blake2b
from pathlib import Path

import msgspec

from aiaas_async.data.files import replace
from aiaas_async.errors import CorruptError


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`shards`: node to folder; `probe`: where the ring's hash puts a fixed key (it tells
    whether the secret is still the same); `fingerprint`: of the placement."""

    shards: dict[str, str]
    probe: str
    fingerprint: str

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


def sweep(folder: Path, layout: Layout) -> None:
    """Remove the shard folders that no node of the layout has any more."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in layout.shards.values():
            shutil.rmtree(path)
