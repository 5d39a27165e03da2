"""The clients and a real server: what one packs the other reads, from registration to training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aiaas_async import AiaasError, Client
from aiaas_async.client import UnreachableError
from aiaas_async.errors import (
    ArtifactError,
    ConflictError,
    InputError,
    NotReadyError,
    PreconditionError,
)
from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.testing import server
from tests.runtimes.artifacts import GRAPH as CLASSIFIER
from tests.runtimes.artifacts import network, params, rows

pytestmark = pytest.mark.real

GRAPH = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [4]}],
    "layers": [
        {"name": "logits", "op": "dense", "units": 3},
        {"name": "label", "op": "argmax", "labels": ["red", "green", "blue"]},
    ],
    "outputs": ["label", "logits"],
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder: Path = tmp_path_factory.mktemp("data")
    with server(folder) as running, Client(running.url, timeout=20.0) as client:
        yield client
    with pytest.raises(UnreachableError, match="aiaas serve"):
        Client(running.url).models()


@pytest.fixture(scope="module")
def colours(client: Client) -> str:
    """A model trained on three far apart clouds of points."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    x = (rng.normal(size=(300, 4)) * 0.1 + np.eye(3, 4)[y]).astype(np.float32)
    client.put_dataset(
        "points",
        {"x": {"dtype": "float32", "shape": [4]}, "y": {"dtype": "int64", "shape": []}},
    )
    report = client.put_items("points", {"x": x, "y": y}, keys=[f"p{i}" for i in range(300)])
    assert report["written"] == 300
    job = client.train(
        model="colours",
        version="1.0",
        dataset="points",
        graph=GRAPH,
        plan={"epochs": 20, "learning_rate": 0.5, "target": "y"},
    )
    kinds = [event.kind for event in client.follow(job["job"])]
    assert kinds[-1] == "end"
    assert "progress" in kinds
    assert client.wait(job["job"])["state"] == "succeeded"
    return "colours"


def test_the_server_is_ready_and_shows_its_nodes_ring_and_metrics(client: Client) -> None:
    assert client.ready()
    nodes = client.nodes()
    assert client.node(nodes[0]["id"])["id"] == nodes[0]["id"]
    assert client.ring("some key")
    text = client.metrics()
    assert 'aiaas_process_resident_bytes{process="server"}' in text
    assert f'aiaas_process_cpu_seconds_total{{process="{nodes[0]["id"]}"}}' in text


def test_items_come_back_as_they_went(client: Client, colours: str) -> None:
    assert client.dataset("points")["count"] == 300
    first = client.items("points", limit=2)
    assert first["keys"] == ["p0", "p1"]
    second = client.items("points", after=first["next"], limit=1)
    assert second["keys"] == ["p2"]
    one = client.get_item("points", "p1")["columns"]
    assert one["x"].dtype == np.float32
    assert np.array_equal(one["x"], first["columns"]["x"][1])


def test_a_batch_gives_arrays_and_an_item_gives_values(client: Client, colours: str) -> None:
    batch = client.call(x=np.eye(3, 4), model=colours)
    assert list(batch["label"]) == ["red", "green", "blue"]
    assert batch["logits"].shape == (3, 3)
    assert batch.timing.batch_size == 3
    single = client.call({"x": [0, 1, 0, 0]}, model=colours, outputs=["label"])
    assert single.outputs == {"label": "green"}


def test_a_model_can_be_called_by_its_inputs_alone(client: Client, colours: str) -> None:
    assert client.call(x=np.zeros(4)).model == colours


def test_gradients_come_back_as_arrays(client: Client, colours: str) -> None:
    x, y = {"x": np.eye(3, 4, dtype=np.float32)}, {"label": np.arange(3)}
    answer = client.gradient(colours, x, y)
    assert answer.inputs["x"].shape == (3, 4)
    assert answer.parameters
    assert answer.loss == pytest.approx(client.loss(colours, x, y).loss)
    assert not client.gradient(colours, x, y, wrt="inputs").parameters


def test_a_wrong_shape_is_a_typed_error_with_details(client: Client, colours: str) -> None:
    with pytest.raises(InputError, match="expects x: float32") as caught:
        client.call(x=np.zeros((2, 5)), model=colours)
    assert caught.value.details["expected"] == [4]


def test_a_push_that_fails_leaves_no_version_behind(client: Client, tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text(json.dumps(GRAPH))
    (tmp_path / "model.safetensors").write_bytes(b"no such thing")
    with pytest.raises(ArtifactError):
        client.push("broken", "1.0", tmp_path)
    assert "broken" not in {model["name"] for model in client.models()}


def test_a_pushed_folder_is_a_version_and_pushing_it_again_changes_nothing(
    client: Client, tmp_path: Path
) -> None:
    write_tensors(tmp_path / "model.safetensors", params())
    (tmp_path / "graph.json").write_text(json.dumps(CLASSIFIER))
    (tmp_path / "metadata.json").write_text(json.dumps({"tags": ["pushed"]}))
    seen: list[tuple[int, int]] = []
    pushed = client.push("copy", "2.0-beta", tmp_path, progress=lambda *at: seen.append(at))
    assert pushed["state"] == "ready"
    assert pushed["tags"] == ["pushed"]
    assert [entry["path"] for entry in pushed["files"]] == ["graph.json", "model.safetensors"]
    assert seen[-1] == (sum(entry["size"] for entry in pushed["files"]),) * 2
    assert client.push("copy", "2.0-beta", tmp_path) == pushed
    x = rows(7)
    there = client.call(x=x, model="copy", outputs=["probabilities"])
    here = network().predict(params(), {"x": x}, ["probabilities"])
    np.testing.assert_allclose(there["probabilities"], here["probabilities"], rtol=1e-5)


def test_a_version_without_files_cannot_be_called(client: Client) -> None:
    client.register(name="empty", version="1.0", inputs=["image"], outputs=["label"])
    with pytest.raises(NotReadyError, match="push"):
        client.call(image=np.zeros(3), model="empty")
    with pytest.raises(ConflictError):
        client.register(name="empty", version="1.0", inputs=["other"], outputs=["label"])
    client.delete_model("empty")
    assert "empty" not in [model["name"] for model in client.models()]


def test_an_alias_moves_only_from_where_it_is_believed_to_be(client: Client, colours: str) -> None:
    moved = client.set_alias(colours, "best", "1.0", expected=0)
    with pytest.raises(PreconditionError):
        client.set_alias(colours, "best", "1.0", expected=0)
    again = client.set_alias(colours, "best", "1.0", expected=moved["revision"])
    assert client.alias(colours, "best") == again
    assert client.call(x=np.zeros(4), model=colours, version="best").version == "1.0"
    client.delete_alias(colours, "best")
    with pytest.raises(AiaasError, match="best"):
        client.alias(colours, "best")


def test_a_version_is_loaded_and_unloaded_on_request(client: Client, colours: str) -> None:
    assert client.load(colours, "1.0")["node"]
    client.unload(colours, "1.0")
    assert client.version(colours)["state"] == "ready"


def test_discovery_finds_by_signature_and_says_why_not(client: Client, colours: str) -> None:
    assert client.discover(inputs=["x"], outputs=["label"])["name"] == colours
    with pytest.raises(AiaasError) as caught:
        client.discover(name=colours, metrics={"accuracy": ">=1.5"})
    assert caught.value.code == "no_match"
