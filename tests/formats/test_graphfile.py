"""graph.json is an object of bounded size and depth, or a clear refusal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiaas_async.errors import ArtifactError
from aiaas_async.formats.graphfile import MAX_BYTES, MAX_DEPTH, read_graph


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def test_an_object_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    graph = {"inputs": [], "layers": [{"name": "ü"}], "outputs": [1, 2.5, None, True]}
    path.write_text(json.dumps(graph))
    assert read_graph(path) == graph
    path.write_bytes(nested(MAX_DEPTH))
    read_graph(path)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not sound JSON"),
        (b"[1]", "must be a JSON object"),
        (b'{"a": 1, "a": 2}', "given twice"),
        (b'{"a": Infinity}', "not allowed"),
        (b"\xff", "not UTF-8"),
        (nested(MAX_DEPTH + 1), "nested over 16 deep"),
        (nested(150_000), "nested over 16 deep"),
        (b'{"a": "' + b"x" * MAX_BYTES + b'"}', "at most 1048576"),
    ],
)
def test_anything_else_is_refused_with_the_reason(tmp_path: Path, raw: bytes, reason: str) -> None:
    path = tmp_path / "graph.json"
    path.write_bytes(raw)
    with pytest.raises(ArtifactError, match=reason):
        read_graph(path)
