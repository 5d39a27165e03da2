"""Gradients against finite differences along random directions, in float64.

One direction tests all elements at once: <gradient, v> must equal (f(p + hv) - f(p - hv)) / 2h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network

Point = dict[str, Array]
STEP: Final = 1e-5  # balances truncation h^2 against cancellation 1e-16 / h


def directional_error(
    function: Callable[[Point], float], point: Point, gradient: Mapping[str, Array], seed: int = 0
) -> float:
    """The relative difference of both slopes of `function` at `point`, along a direction
    drawn from `seed`. Arrays are float64."""
    rng = np.random.default_rng(seed)
    direction = {name: rng.standard_normal(array.shape) for name, array in point.items()}
    ahead = function({name: point[name] + STEP * direction[name] for name in point})
    behind = function({name: point[name] - STEP * direction[name] for name in point})
    measured = (ahead - behind) / (2 * STEP)
    claimed = sum(float(np.vdot(gradient[name], direction[name])) for name in point)
    return abs(measured - claimed) / max(1.0, abs(measured), abs(claimed))


def network_error(
    network: Network, inputs: Point, output: str, *, training: bool = False, seed: int = 0
) -> float:
    """The worst `directional_error` of a network's backward pass over three directions.

    With respect to all trainable parameters and float inputs together; the scalar is a random
    weighting of `output`. Dropout draws the same mask in each pass.
    """
    params = network.init(seed, np.float64)
    fixed = {name: array for name, array in inputs.items() if array.dtype.kind != "f"}

    def run(point: Point) -> tuple[Array, Callable[[Array], Point]]:
        given = fixed | {name: point[name] for name in inputs if name not in fixed}
        weights = params | {name: point[name] for name in params if name in point}
        rng = np.random.default_rng(seed)
        found, cache = network.forward(weights, given, training=training, rng=rng, outputs=[output])

        def gradients(dout: Array) -> Point:
            dinputs, grads = network.backward(
                weights, cache, {output: dout}, wrt_inputs=True, wrt_params=True
            )
            return dinputs | grads

        return found[output], gradients

    y, gradients = run(dict(inputs))
    weighting = np.random.default_rng(seed + 1).standard_normal(y.shape)
    found = gradients(weighting)
    start = {name: (params | dict(inputs))[name] for name in found if name not in fixed}
    return max(
        directional_error(lambda p: float(np.vdot(run(p)[0], weighting)), start, found, seed + i)
        for i in range(3)
    )
