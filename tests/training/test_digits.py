"""The recipe for the digits reaches what the demonstration promises."""

from __future__ import annotations

import numpy as np

from aiaas_async.data.digits import load_digits
from aiaas_async.data.schema import Column
from aiaas_async.nn.network import Network
from aiaas_async.training.digits import digits_graph, digits_plan
from aiaas_async.training.loop import prepare
from aiaas_async.training.plan import parse_plan
from tests.training.data import Memory, begun, finished

COLUMNS = {"image": Column("float32", (8, 8, 1)), "label": Column("int64")}


def test_held_out_digits_are_read_by_a_network_trained_in_seconds() -> None:
    images, labels = load_digits()
    order = np.random.default_rng(0).permutation(len(images))
    held_out, rest = order[:360], order[360:]
    network = Network.from_spec(digits_graph())
    data = Memory({"image": images[rest], "label": labels[rest]}, COLUMNS)
    run = prepare(network, parse_plan(digits_plan()), data)
    state = finished(run, begun(run))
    found = network.predict(state.resulting, {"image": images[held_out]}, ["label"])["label"]
    assert np.mean(found == labels[held_out]) >= 0.975
