"""The recipe for the digits reaches what the demonstration promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aiaas_async.compute.jobs import ArtifactFiles, Train
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.data.dataset import Dataset
from aiaas_async.data.digits import load_digits
from aiaas_async.data.schema import Column, parse_spec
from aiaas_async.nn.network import Network
from aiaas_async.ring.hashring import Ring
from aiaas_async.runtimes.base import Artifact
from aiaas_async.runtimes.layers import LayersRuntime
from aiaas_async.training.digits import digits_graph, digits_plan
from aiaas_async.training.loop import prepare
from aiaas_async.training.plan import parse_plan
from tests.training.data import Memory, begun, finished

COLUMNS = {"image": Column("float32", (8, 8, 1)), "label": Column("int64")}
IMAGES, LABELS = load_digits()
ORDER = np.random.default_rng(0).permutation(len(IMAGES))
HELD_OUT, REST = ORDER[:360], ORDER[360:]


def test_two_epochs_of_the_recipe_read_most_held_out_digits() -> None:
    network = Network.from_spec(digits_graph())
    data = Memory({"image": IMAGES[REST], "label": LABELS[REST]}, COLUMNS)
    run = prepare(network, parse_plan(digits_plan() | {"epochs": 2}), data)
    state = finished(run, begun(run))
    found = network.predict(state.resulting, {"image": IMAGES[HELD_OUT]}, ["label"])["label"]
    assert np.mean(found == LABELS[HELD_OUT]) >= 0.9


@pytest.mark.real
async def test_trained_in_a_worker_the_recipe_reads_held_out_digits(tmp_path: Path) -> None:
    columns = {"image": {"dtype": "float32", "shape": [8, 8, 1]}, "label": {"dtype": "int64"}}
    spec = parse_spec("digits", "ab12", {"columns": columns}, 1.0)
    dataset = Dataset.create(tmp_path / "data", spec, Ring(["node-0"], bytes(16), 16))
    dataset.put(None, {"image": IMAGES[REST], "label": LABELS[REST]})
    task = {"plan": digits_plan(), "data": dataset.source().manifest(), "start": "graph"}
    forks = WorkerForks()
    worker = await forks.spawn()
    job = Train(ArtifactFiles("numpy", {}, digits_graph()), task, str(tmp_path / "job"))
    facts = (await worker.submit(job)).facts
    await forks.close()
    files = {label: tmp_path / "job" / name for label, name in facts["files"].items()}
    model = LayersRuntime().load(Artifact(files))
    found = model.predict({"image": IMAGES[HELD_OUT]}, ["label"])["label"]
    assert np.mean(found == LABELS[HELD_OUT]) >= 0.985
