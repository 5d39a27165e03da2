"""What is made small: a layer's values, a loss, and the shape its targets take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiaas_async.errors import InputError, InvalidError
from aiaas_async.names import clip
from aiaas_async.nn.graph import near
from aiaas_async.nn.head import training_head
from aiaas_async.nn.losses import LOSSES
from aiaas_async.nn.network import Network

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Objective:
    """`loss` (a name in `nn/losses.py`) between the layer `output` and the targets."""

    output: str
    loss: str

    def __call__(self, y: Array, target: Array) -> tuple[float, Array]:
        """The mean loss, and its gradient with respect to `y` [N, …]."""
        return LOSSES[self.loss](y, self.fitted(y, target))

    def fitted(self, y: Array, target: Array) -> Array:
        """`target`, with a last dimension of one where `y` has it and a column of numbers
        cannot: [N] for predictions [N, 1]."""
        alone = self.loss != "cross_entropy" and y.shape == (*target.shape, 1)
        return target.reshape(y.shape) if alone else target

    def decisions(self, y: Array, target: Array) -> tuple[int, int] | None:
        """(right ones, all) in a batch; None where the loss decides nothing."""
        target = self.fitted(y, target)
        if self.loss == "cross_entropy":
            right = y.argmax(-1) == (target.argmax(-1) if target.shape == y.shape else target)
        elif self.loss == "binary_cross_entropy":
            right = (y > 0) == (target > 0.5)
        else:
            return None
        return int(np.count_nonzero(right)), right.size


def objective(network: Network, output: str | None, loss: str | None) -> Objective:
    """What to make small in `network`; what is None follows from the graph (`nn/head.py`).

    Raises `InvalidError` for an unknown loss, `GraphError` for an output without a gradient.
    """
    if loss is not None and loss not in LOSSES:
        raise InvalidError(f"loss {clip(loss)} is not known{near(loss, LOSSES)}")
    if output is not None and loss is not None:
        return Objective(_layer(network, output), loss)
    if output is not None:
        network = Network.from_spec({**network.to_spec(), "outputs": [_layer(network, output)]})
    found, usual = training_head(network)
    return Objective(found, loss or usual)


def only_target(targets: Mapping[str, Array], output: str) -> Array:
    """The one array in `targets`. Raises `InputError` for none or several."""
    if len(targets) == 1:
        return next(iter(targets.values()))
    if output in targets:
        extra = sorted(set(targets) - {output})
        raise InputError(f"targets for {output!r} only; also given: {clip(extra)}")
    raise InputError(f"one array of targets expected, for {output!r}; got {clip(sorted(targets))}")


def _layer(network: Network, output: str) -> str:
    layers = [node.name for node in network.graph.nodes]
    if output not in layers:
        raise InvalidError(f"output {clip(output)} is not a layer{near(output, layers)}")
    return output
