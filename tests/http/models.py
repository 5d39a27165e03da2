"""Models for the tests of the HTTP surface: a doubler without weights, a classifier with."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from aiaas_async.formats.safetensors import write_tensors
from tests.http.api import Api, Reply
from tests.runtimes.artifacts import BARE, GRAPH, params

V = "/models/{}/versions/1.0"
OCTETS = {"Content-Type": "application/octet-stream"}
BARE_CALL = [1.0, 2.0, 3.0, 4.0]


def metadata(name: str = "m", **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "inputs": ["x"], "outputs": ["y"], **more}


def doubler(name: str = "doubler", **more: Any) -> dict[str, Any]:
    return metadata(name, outputs=["doubled"], graph=BARE, **more)


def classifier(name: str = "classifier", **more: Any) -> dict[str, Any]:
    return metadata(name, outputs=["label", "probabilities"], graph=GRAPH, **more)


def weights(folder: Path) -> bytes:
    """The classifier's file."""
    path = folder / "weights"
    write_tensors(path, params())
    return path.read_bytes()


def repr_digest(data: bytes) -> dict[str, str]:
    raw = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return {"Repr-Digest": f"sha-256=:{raw}:"}


async def commit_doubler(api: Api, name: str = "doubler", **more: Any) -> Reply:
    """Register and commit a model that needs no files."""
    await succeed(api.post("/register", doubler(name, **more)))
    return await succeed(api.post(V.format(name) + "/commit"))


async def commit_classifier(api: Api, data: bytes, name: str = "classifier") -> Reply:
    await succeed(api.post("/register", classifier(name)))
    path = V.format(name) + "/files/model.safetensors"
    await succeed(api.put(path, raw=data, headers=OCTETS))
    return await succeed(api.post(V.format(name) + "/commit"))


async def succeed(asked: Any) -> Reply:
    reply: Reply = await asked
    assert 200 <= reply.status < 300, reply.value
    return reply
