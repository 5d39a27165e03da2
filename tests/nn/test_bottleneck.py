"""Inverted residual blocks as one step predict what their layers predict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.nn import bottleneck
from aiaas_async.nn.fusing import Bottleneck, chains, fused, fused_count
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from tests.nn.graphs import Option, normal, single, spec


def block(size: tuple[int, int, int], *, expands: bool, **options: Any) -> Network:
    before: list[Option] = [
        {"name": "expand", "op": "conv2d", "filters": 6, "kernel": [1, 1]},
        {"name": "expanded", "op": "relu6"},
    ]
    layers: list[Option] = [
        *(before if expands else ()),
        {"name": "depthwise", "op": "depthwise_conv2d"} | options,
        {"name": "filtered", "op": "relu"},
        {"name": "project", "op": "conv2d", "filters": 9, "kernel": [1, 1]},
    ]
    return Network.from_spec(spec(layers, ["project"], size))


def drawn(network: Network, dtype: Any = np.float64) -> dict[str, Array]:
    """Biases too."""
    names = enumerate(network.parameter_specs().items())
    return {name: normal(shape, i).astype(dtype) for i, (name, (shape, _)) in names}


@st.composite
def blocks(draw: st.DrawFn) -> Network:
    kernel = draw(st.tuples(*[st.integers(1, 5)] * 2))
    stride = draw(st.tuples(*[st.integers(1, k) for k in kernel]))
    size = draw(st.tuples(*[st.integers(k, 33) for k in kernel], st.integers(1, 3)))
    borders = st.tuples(*[st.tuples(*[st.integers(0, k - 1)] * 2) for k in kernel])
    padding = draw(st.sampled_from(["same", "valid"]) | borders)
    expands = draw(st.booleans())
    return block(size, expands=expands, kernel=kernel, stride=stride, padding=padding)


@given(blocks(), st.integers(0, 2), st.sampled_from([1, 1000, 10**9]), st.sampled_from([2, 99]))
@settings(deadline=None)
def test_a_block_of_any_kernel_stride_and_border_in_any_bands(
    network: Network, n: int, band: int, depth: int
) -> None:
    params, x = drawn(network), normal((n, *(network.inputs[0].shape or ())))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bottleneck, "WHOLE_BYTES", band)
        patch.setattr(bottleneck, "BAND_BYTES", band)
        patch.setattr(bottleneck, "DEPTH", depth)
        smaller, kept = fused(network, params)
    assert [type(node.layer) for node in smaller.graph.nodes] == [Bottleneck]
    for _ in range(2):  # the memory is used again
        found = smaller.predict(kept, {"x": x})["project"]
        np.testing.assert_allclose(found, network.predict(params, {"x": x})["project"], atol=1e-9)


def residual(changed: dict[str, Option] | None = None, *outputs: str) -> Network:
    layers: list[Option] = [
        {"name": "stem", "op": "conv2d", "filters": 4, "kernel": [3, 3]},
        {"name": "expand", "op": "conv2d", "filters": 48, "kernel": [1, 1]},
        {"name": "expanded", "op": "relu6"},
        {"name": "depthwise", "op": "depthwise_conv2d", "kernel": [3, 3]},
        {"name": "filtered", "op": "relu6"},
        {"name": "project", "op": "conv2d", "filters": 4, "kernel": [1, 1]},
        {"name": "sum", "op": "add", "inputs": ["stem", "project"]},
        {"name": "head", "op": "conv2d", "filters": 8, "kernel": [1, 1]},
    ]
    layers = [layer | (changed or {}).get(layer["name"], {}) for layer in layers]
    return Network.from_spec(spec(layers, list(outputs) or ["head"], (14, 15, 3)))


def test_blocks_one_after_another_share_their_memory_and_the_rest_stays() -> None:
    network = residual()
    params, x = drawn(network, np.float32), normal((3, 14, 15, 3)).astype(np.float32)
    smaller, kept = fused(network, params)
    names = [node.name for node in smaller.graph.nodes]
    assert names == ["stem", "project", "sum", "head"]
    assert sorted(kept) == [
        "head.bias", "head.weight", "project.bias", "stem.bias", "stem.weight",
    ]  # fmt: skip
    found = smaller.predict(kept, {"x": x})["head"]
    assert found.dtype == np.float32
    expected = network.predict(params, {"x": x})["head"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_a_network_without_blocks_stays_what_it_is() -> None:
    network = residual({"depthwise": {"use_bias": False}})
    params = drawn(network)
    assert fused(network, params) == (network, params)


@pytest.mark.parametrize("changed", [{"expand": {"kernel": [3, 3]}}, {"expanded": {"op": "tanh"}}])
def test_a_block_may_begin_with_its_depthwise_convolution(changed: dict[str, Option]) -> None:
    [chain] = chains(residual(changed).graph)
    assert chain.expansion is chain.first is None
    assert chain.inside == ("depthwise", "filtered")


@pytest.mark.parametrize(
    "changed",
    [
        {"project": {"use_bias": False}},
        {"filtered": {"op": "tanh"}},
        {"depthwise": {"stride": [2, 4]}, "sum": {"inputs": ["project", "project"]}},
        {"project": {"stride": [2, 2]}, "sum": {"inputs": ["project", "project"]}},
        {"filtered": {"inputs": ["expanded"]}},
        {"sum": {"op": "concatenate", "inputs": ["stem", "project", "filtered"]}},
    ],
)
def test_layers_that_are_no_block_or_are_read_by_others_are_left_alone(
    changed: dict[str, Option],
) -> None:
    assert chains(residual(changed).graph) == []


def test_a_block_with_an_output_inside_is_left_alone() -> None:
    assert [c.projection.name for c in chains(residual().graph)] == ["project"]
    assert chains(residual(None, "head", "filtered").graph) == []


def test_what_is_kept_besides_the_weights_is_known_from_the_graph() -> None:
    network = residual()
    repeated, reordered = 3 * 3 * 2048, 4 * 48 + 48 * 4 + 4 * 8
    assert fused_count(network.graph) == 2**20 + repeated + reordered
    assert fused_count(single("conv2d", (9, 9, 3), filters=4, kernel=[1, 1]).graph) == 0
