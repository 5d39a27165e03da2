"""The seed's sequence, letter by letter, with a plain client against a real server process."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.nn.network import Network
from aiaas_async.testing import server

pytestmark = pytest.mark.real

MODEL: dict[str, Any] = {
    "name": "image_classifier",
    "version": "1.0",
    "inputs": ["image"],
    "outputs": ["label"],
    "resources": {"cpu": 4, "memory": 16},
}
GRAPH: dict[str, Any] = {
    "inputs": [{"name": "image", "dtype": "float32", "shape": [8, 8, 1]}],
    "layers": [
        {"name": "edges", "op": "conv2d", "filters": 4, "kernel": [3, 3]},
        {"name": "active", "op": "relu"},
        {"name": "flat", "op": "flatten"},
        {"name": "logits", "op": "dense", "units": 10},
        {"name": "label", "op": "argmax"},
    ],
    "outputs": ["label"],
}


def test_register_discover_upload_commit_call(tmp_path: Path) -> None:
    network = Network.from_spec(GRAPH)
    params = network.init(5)
    write_tensors(tmp_path / "weights", params)
    weights = (tmp_path / "weights").read_bytes()
    image = np.random.default_rng(0).random((8, 8, 1), np.float32)
    with server(tmp_path / "data", "--nodes", "2") as running:
        response = requests.post(f"{running.url}/register", json=MODEL, timeout=20)
        assert response.status_code == 200
        stored = response.json()

        response = requests.post(
            f"{running.url}/discover",
            json={"name": "image_classifier", "version": "1.0"},
            timeout=20,
        )
        assert response.status_code == 200
        found = response.json()
        assert {field: found[field] for field in MODEL} == MODEL

        again = requests.post(f"{running.url}/register", json=MODEL, timeout=20)
        assert (again.status_code, again.json()) == (200, stored)
        other = requests.post(
            f"{running.url}/register", json={**MODEL, "outputs": ["class"]}, timeout=20
        )
        assert other.status_code == 409

        early = requests.post(f"{running.url}/call", json={"image": image.tolist()}, timeout=20)
        assert early.status_code == 409
        assert "commit" in early.json()["detail"]

        version = f"{running.url}/models/image_classifier/versions/1.0"
        for name, data in (("graph.json", graph_json()), ("model.safetensors", weights)):
            digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
            response = requests.put(
                f"{version}/files/{name}",
                data=data,
                headers={"Repr-Digest": f"sha-256=:{digest}:"},
                timeout=20,
            )
            assert response.status_code == 201
        assert requests.post(f"{version}/commit", timeout=20).status_code == 200

        response = requests.post(f"{running.url}/call", json={"image": image.tolist()}, timeout=20)
        assert response.status_code == 200
        expected = network.predict(params, {"image": image[None]})["label"][0]
        assert response.json()["outputs"] == {"label": expected}


def graph_json() -> bytes:

    return json.dumps(GRAPH).encode()
