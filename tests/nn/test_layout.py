"""Weights that are laid out for BLAS predict what they did before."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from aiaas_async.nn import layout
from aiaas_async.nn.folding import folded
from aiaas_async.nn.layer import Array
from aiaas_async.nn.layout import panel_count, shareable, use_panels
from aiaas_async.nn.network import Network
from aiaas_async.nn.panelled import as_panels
from tests.nn.graphs import Option, normal, spec

LAYERS: list[Option] = [
    {"name": "wide", "op": "dense", "units": 1024},
    {"name": "norm", "op": "batch_norm"},
    {"name": "relu", "op": "relu"},
    {"name": "deep", "op": "dense", "units": 512},
    {"name": "odd", "op": "dense", "units": 601},
    {"name": "small", "op": "dense", "units": 10},
]


def network() -> Network:
    return Network.from_spec(spec(LAYERS, ["small", "relu"], (256,)))


def predicted(found: Network, params: Mapping[str, Array]) -> dict[str, Array]:
    return found.predict(params, {"x": normal((5, 256)).astype(np.float32)})


@pytest.fixture(autouse=True)
def _faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "takes_as_it_lies", lambda: True)


@pytest.mark.parametrize("does", [True, False])
def test_what_fits_is_laid_out_where_that_is_faster(
    does: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "takes_as_it_lies", lambda: does)
    whole, params = network(), network().init(3)
    smaller, kept = folded(whole, params)
    found = dict(kept)
    use_panels(smaller, found, {})
    changed = {name for name in kept if found[name] is not kept[name]}
    assert changed == ({"norm.weight", "deep.weight"} if does else set())
    assert set(shareable(whole)) == ({"deep.weight"} if does else set())
    for name, values in predicted(whole, params).items():
        np.testing.assert_allclose(predicted(smaller, found)[name], values, rtol=1e-3, atol=1e-4)


def test_what_others_share_is_taken_and_what_is_left_stays() -> None:
    whole, params = network(), network().init(3)
    shared = {name: as_panels(params[name]).copy() for name in shareable(whole)}
    smaller, kept = folded(whole, params)
    found = dict(kept)
    use_panels(smaller, found, shared, left=kept)
    assert found["deep.weight"] is shared["deep.weight"]
    assert found["norm.weight"] is kept["norm.weight"]
    np.testing.assert_allclose(
        predicted(smaller, found)["small"], predicted(whole, params)["small"], rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("does", [True, False])
def test_what_may_stay_beside_its_panels_is_counted_on_any_machine(
    does: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "takes_as_it_lies", lambda: does)
    graph = network().graph
    # Of wide.weight, folding makes another, and panels take that one's place.
    assert panel_count(graph, network().parameter_specs()) == 1024 * 512
    assert panel_count(graph, {"small.weight"}) == 0
