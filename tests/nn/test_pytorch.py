"""Every layer, loss, optimiser and schedule against the numbers PyTorch gives.

`pytorch/numbers.npz` holds them in float64 (`python -m tests.nn.pytorch` records them). Our
float64 must agree to 1e-10, our float32 to 1e-5 with the same float64 numbers; both relative to
the largest number compared, or to 1 where that is larger.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pytest

from aiaas_async.nn.layer import Array
from aiaas_async.nn.losses import LOSSES, cross_entropy
from aiaas_async.nn.network import Network
from aiaas_async.nn.optim import OPTIMIZERS, Sgd, clip_by_norm
from aiaas_async.nn.schedules import SCHEDULES
from aiaas_async.nn.table import OPS

PATH: Final = Path(__file__).parent / "pytorch" / "numbers.npz"
TOLERANCES: Final = {"float64": 1e-10, "float32": 1e-5}
with np.load(PATH, allow_pickle=False) as recorded:
    NUMBERS: Final[dict[str, Array]] = dict(recorded)
CASES: Final[dict[str, Any]] = json.loads(NUMBERS["manifest"].tobytes())
either_precision = pytest.mark.parametrize("dtype", list(TOLERANCES))


def part(case: str, name: str, dtype: str) -> dict[str, Array]:
    """The recorded arrays "case/name.*" by what follows."""
    prefix = f"{case}/{name}."
    return {n[len(prefix) :]: cast(a, dtype) for n, a in NUMBERS.items() if n.startswith(prefix)}


def number(case: str, name: str, dtype: str) -> Array:
    return cast(NUMBERS[f"{case}/{name}"], dtype)


def cast(array: Array, dtype: str) -> Array:
    return array.astype(dtype) if array.dtype.kind == "f" else array


def agree(ours: Array | float, theirs: Array, dtype: str) -> None:
    found = np.asarray(ours)
    assert found.shape == theirs.shape
    scale = max(1.0, float(np.abs(theirs).max(initial=0.0)))
    np.testing.assert_allclose(found, theirs, rtol=0, atol=TOLERANCES[dtype] * scale)


def all_agree(ours: Mapping[str, Array], theirs: Mapping[str, Array], dtype: str) -> None:
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert ours[name].dtype == dtype
        agree(ours[name], array, dtype)


def one_layer(case: str) -> tuple[Network, dict[str, Array]]:
    """The case's layer as a network named "layer", and its inputs in float64."""
    inputs = {n.split("/")[1]: a for n, a in NUMBERS.items() if n.startswith(f"{case}/x")}
    given = [
        {
            "name": name,
            "dtype": "float32" if x.dtype.kind == "f" else "int64",
            "shape": x.shape[1:],
        }
        for name, x in inputs.items()
    ]
    found = CASES["layers"][case]
    layer = {"name": "layer", "op": found["op"], "inputs": list(inputs), **found["options"]}
    spec = {"inputs": given, "layers": [layer], "outputs": ["layer"]}
    return Network.from_spec(spec), inputs


@either_precision
@pytest.mark.parametrize("case", CASES["layers"])
def test_a_layer_computes_what_pytorch_computes(case: str, dtype: str) -> None:
    network, inputs = one_layer(case)
    given = {name: cast(x, dtype) for name, x in inputs.items()}
    params = {f"layer.{name}": p for name, p in part(case, "p", dtype).items()}
    training = CASES["layers"][case]["training"]
    found, cache = network.forward(params, given, training=training)
    agree(found["layer"], NUMBERS[f"{case}/y"], dtype)
    all_agree(cache.updates, prefixed(part(case, "after", "float64")), dtype)
    if not training:
        agree(network.predict(params, given)["layer"], found["layer"], dtype)
    if f"{case}/dy" not in NUMBERS:
        return
    douts = {"layer": number(case, "dy", dtype)}
    dinputs, grads = network.backward(params, cache, douts, wrt_inputs=True, wrt_params=True)
    theirs = part(case, "d", "float64")
    all_agree(dinputs, {n: d for n, d in theirs.items() if n in inputs}, dtype)
    all_agree(grads, prefixed({n: d for n, d in theirs.items() if n not in inputs}), dtype)


def prefixed(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"layer.{name}": array for name, array in arrays.items()}


@either_precision
@pytest.mark.parametrize("case", CASES["losses"])
def test_a_loss_and_its_gradient_are_pytorchs(case: str, dtype: str) -> None:
    loss = LOSSES[CASES["losses"][case]]
    value, gradient = loss(number(case, "y", dtype), number(case, "target", dtype))
    agree(value, NUMBERS[f"{case}/loss"], dtype)
    agree(gradient, NUMBERS[f"{case}/dy"], dtype)
    assert gradient.dtype == dtype


@either_precision
@pytest.mark.parametrize("case", CASES["optimizers"])
def test_an_optimiser_steps_as_pytorchs_does(case: str, dtype: str) -> None:
    found = CASES["optimizers"][case]
    optimizer = msgspec.convert(found["options"], OPTIMIZERS[found["kind"]])
    params = part(case, "p", dtype)
    state = optimizer.init(params)
    for i, rate in enumerate(found["rates"]):
        params, state = optimizer.step(state, params, part(case, f"g{i}", dtype), rate)
        all_agree(params, part(case, f"after{i}", "float64"), dtype)


@pytest.mark.parametrize("case", CASES["schedules"])
def test_a_schedule_gives_pytorchs_rates(case: str) -> None:
    found, theirs = CASES["schedules"][case], NUMBERS[f"{case}_schedule/factors"]
    schedule = msgspec.convert(found["options"], SCHEDULES[found["kind"]])
    ours = [schedule.factor(step, len(theirs)) for step in range(len(theirs))]
    agree(np.array(ours), theirs, "float64")


@either_precision
def test_clipping_scales_as_pytorchs_does(dtype: str) -> None:
    clipped, size = clip_by_norm(part("clip", "given", dtype), 0.5)
    agree(size, NUMBERS["clip/norm"], dtype)
    for name, theirs in part("clip", "clipped", "float64").items():
        agree(clipped[name], theirs, "float32")  # PyTorch divides by the norm + 1e-6


@either_precision
def test_a_classifier_trains_as_pytorchs_does(dtype: str) -> None:
    network = Network.from_spec(CASES["network"])
    params, x = part("network", "p", dtype), number("network", "x", dtype)
    optimizer = Sgd(momentum=0.9)
    trained = {n: p for n, p in params.items() if "running" not in n}
    state = optimizer.init(trained)
    for i, loss in enumerate(NUMBERS["network/loss"]):
        found, cache = network.forward(params, {"x": x}, training=True)
        ours, dy = cross_entropy(found["logits"], NUMBERS["network/classes"])
        agree(ours, loss, dtype)
        douts = {"logits": dy}
        _, grads = network.backward(params, cache, douts, wrt_inputs=False, wrt_params=True)
        if i == 0:
            all_agree(grads, part("network", "d", "float64"), dtype)
        params, state = optimizer.step(state, params | cache.updates, grads, 0.1)
    all_agree(params, part("network", "after", "float64"), dtype)


def test_nothing_in_the_tables_is_left_out() -> None:
    assert {case["op"] for case in CASES["layers"].values()} == OPS.keys()
    assert set(CASES["losses"].values()) == LOSSES.keys()
    assert {case["kind"] for case in CASES["optimizers"].values()} == OPTIMIZERS.keys()
    assert {case["kind"] for case in CASES["schedules"].values()} == SCHEDULES.keys()
