"""Text that would be a path, a header, markup or a command: it stays text."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path

import pytest

from aiaas_async.http.app import ROUTES
from tests.http.api import Reply
from tests.http.conftest import Served
from tests.http.models import metadata
from tests.http.raw import head, talk

TRAVERSALS = [
    "../../etc/passwd", "..", "..\\..\\x", "/etc/passwd", "%2e%2e%2f", "a\0b", "a\r\nX-Evil: 1",
    "\u202e", "....//", "file:///etc/passwd", "~root", "$(id)", "'; DROP TABLE models; --",
    "<script>alert(1)</script>", "\x1b[31m", "\ud7ff", "a" * 5000, "con", "{{7*7}}", "http://evil",
]  # fmt: skip
# Routes that have a place for text.
PLACES = sorted({path for _, path, _ in ROUTES if "{" in path})


@pytest.mark.parametrize("text", TRAVERSALS, ids=range(len(TRAVERSALS)))
async def test_hostile_text_in_every_field_changes_nothing_outside(
    served: Served, scratch: Path, text: str
) -> None:
    before = names_in(scratch)
    api, good = served.api, metadata()
    for field in ("name", "version", "runtime", "description"):
        await api.post("/register", {**good, field: text})
    for field in ("inputs", "outputs", "tags"):
        await api.post("/register", {**good, "version": field, field: [text]})
    await api.post("/register", {**good, "version": "r", "resources": {text: 1}})
    for field in ("name", "version", "alias", "runtime", "state"):
        await api.post("/discover", {field: text})
    for field in ("inputs", "outputs", "tags"):
        await api.post("/discover", {field: [text]})
    await api.post("/discover", {"metrics": {text: text}})
    for field in ("model", "version", "key"):
        await api.post("/call", {"model": "m", "inputs": {"x": [1]}, field: text})
    await api.post("/call", {text: [1]})
    await api.put("/datasets/d", {"columns": {text: {"dtype": text}}})
    for field in ("model", "version", "dataset", "parent", "alias"):
        await api.post(
            "/train", {"model": "m", "version": "9", "dataset": "d", "graph": {}, field: text}
        )
    quoted = urllib.parse.quote(text[:2000], safe="")
    for path in PLACES:
        for method in ("GET", "DELETE", "POST", "PUT"):
            reply = await sent_as_is(served, method, in_place(path, quoted))
            assert reply.status < 500, path
    assert names_in(scratch) == before
    folders = names_in(scratch / "artifacts")
    assert all(re.fullmatch(r"[0-9a-f]{2}|incoming", name) for name in folders)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def in_place(path: str, text: str) -> str:
    """A route's path with `text` in every place."""
    return re.sub(r"{[^}]*}", text.replace("\\", ""), path)


async def sent_as_is(served: Served, method: str, path: str) -> Reply:
    fields = ("Content-Type: application/json", "Content-Length: 2")
    return await talk(served.port, head(method, path, *fields), b"{}")


def test_every_place_of_a_path_is_filled() -> None:
    assert in_place("/a/{b}/{c:.+}", "x") == "/a/x/x"
