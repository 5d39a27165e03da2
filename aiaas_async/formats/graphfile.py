"""`graph.json`: a layer graph as a file. What the graph says is checked by `nn/graph.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from aiaas_async.errors import ArtifactError
from aiaas_async.formats.files import opened
from aiaas_async.formats.strictjson import parse_object

FILE_NAME: Final = "graph.json"
MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 16


def read_graph(path: Path) -> dict[str, Any]:
    """The object in `path`. Raises `ArtifactError` over 1 MiB, 16 levels, or for other JSON."""
    with opened(path, FILE_NAME) as (file, size):
        if size > MAX_BYTES:
            raise ArtifactError(f"{FILE_NAME} has {size} bytes; at most {MAX_BYTES} are read")
        return parse_object(file.read(MAX_BYTES), FILE_NAME, MAX_DEPTH)
