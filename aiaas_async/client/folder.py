"""What a push sends: the files of a folder, and the metadata that they themselves give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiaas_async.errors import InvalidError
from aiaas_async.formats.graphfile import FILE_NAME as GRAPH_FILE
from aiaas_async.formats.strictjson import parse_object
from aiaas_async.names import clip

METADATA_FILE: Final = "metadata.json"
_MAX_METADATA: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Contents:
    """`files` by their labels; `metadata` lacks name and version, None if nothing gives any."""

    files: dict[str, Path]
    metadata: dict[str, Any] | None

    def nbytes(self) -> int:
        return sum(path.stat().st_size for path in self.files.values())


def examine(source: Path) -> Contents:
    """The contents of a file or folder; hidden files are left out. Raises `InvalidError`."""
    if source.is_file():
        return Contents({source.name: source}, None)
    if not source.is_dir():
        raise InvalidError(f"{clip(str(source))} is neither a file nor a folder")
    files = {
        label: path
        for path in sorted(source.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
        and (label := path.relative_to(source).as_posix()) != METADATA_FILE
    }
    if not files:
        raise InvalidError(f"the folder {clip(source.name)} holds no files to upload")
    return Contents(files, _metadata(source))


def _metadata(folder: Path) -> dict[str, Any] | None:
    """From metadata.json; the signature from graph.json where it says none."""
    given = _object(folder / METADATA_FILE)
    graph = _object(folder / GRAPH_FILE)
    if given is None and graph is None:
        return None
    graph = graph or {}
    signature: dict[str, Any] = {
        side: graph[side] for side in ("inputs", "outputs") if side in graph
    }
    return {**signature, **(given or {})}


def _object(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    if path.stat().st_size > _MAX_METADATA:
        raise InvalidError(f"{path.name} has over {_MAX_METADATA} bytes")
    return parse_object(path.read_bytes(), path.name, 16)
