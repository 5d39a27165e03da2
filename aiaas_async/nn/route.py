"""A graph as steps, worked out once for each choice of outputs: what is run, in which order,
what may be overwritten, and when a value is no longer needed.

For passes that keep, max pools go before rectifiers. For predictions, which keep nothing, the dense
layer or the convolution before an activation applies it, and a convolution leaves the border that
the next one wants; images go through in small groups.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from aiaas_async.nn.convolution import Convolution
from aiaas_async.nn.dependence import needed
from aiaas_async.nn.exchange import pooled_first
from aiaas_async.nn.graph import Graph, Node
from aiaas_async.nn.layer import PLAIN, Array, Borders, Ending, Mode
from aiaas_async.nn.windows import NO_BORDER

# Of a group's largest value. Two convolutions on 256 images of 28x28: 52 us an image, 62 at once;
# and a batch of large images needs the memory of one.
GROUP_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Step:
    """One layer's pass; its output is the value `name`. `spent` are values nobody reads after."""

    node: Node
    name: str
    own: bool
    framed: bool
    ending: Ending
    spent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """The steps to some outputs from the inputs `read`, for groups of `group` items at most."""

    steps: tuple[Step, ...]
    read: frozenset[str]
    outputs: tuple[str, ...]
    group: int | None

    def follow(self, params: Mapping[str, Array], values: dict[str, Array]) -> dict[str, Array]:
        """Predict the outputs by name, from inputs [N, …] that are not written to."""
        count = len(next(iter(values.values())))
        if self.group is None or count <= self.group:
            return self._pass(params, values)
        starts = range(0, count, self.group)
        parts = [
            self._pass(params, {name: x[at : at + self.group] for name, x in values.items()})
            for at in starts
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def _pass(self, params: Mapping[str, Array], given: Mapping[str, Array]) -> dict[str, Array]:
        values, mode = dict(given), Mode(keep=False)
        for step in self.steps:
            node = step.node
            mode.own, mode.framed, mode.ending = step.own, step.framed, step.ending
            xs = [values[source] for source in node.inputs]
            ps = [params[name] for name in node.parameters]
            values[step.name], _ = node.layer.forward(xs, ps, mode)
            for name in step.spent:
                del values[name]
        return {name: values[name] for name in self.outputs}


def route_to(graph: Graph, outputs: tuple[str, ...], *, keep: bool = False) -> Route:
    """The route to `outputs`, layers of the graph. `keep`: a backward pass may follow."""
    return _Planner(graph, outputs, keep).route()


class _Planner:
    def __init__(self, graph: Graph, outputs: tuple[str, ...], keep: bool) -> None:
        self._outputs, self._keep = outputs, keep
        nodes = needed(graph, outputs)
        self._nodes = pooled_first(nodes, outputs) if keep else nodes
        self._inputs = [spec.name for spec in graph.inputs]
        self._readers: dict[str, list[Node]] = defaultdict(list)
        for node in self._nodes:
            for source in node.inputs:
                self._readers[source].append(node)

    def route(self) -> Route:
        steps: list[Step] = []
        owned: set[str] = set()
        passed: set[str] = set()  # layers that the step before them applies
        framed: set[str] = set()
        for node in self._nodes:
            if node.name in passed:
                continue
            name, ending = self._ending(node)
            passed.add(name)
            own = node.inputs[0] in owned
            steps.append(Step(node, name, own, node.inputs[0] in framed, ending, ()))
            if self._may_change(node, name) and (own or not node.layer.ALIASES):
                owned.add(name)
            if ending.border != NO_BORDER:
                framed.add(name)
        read = frozenset(name for name in self._inputs if name in self._readers)
        return Route(self._with_spent(steps), read, self._outputs, self._group())

    def _ending(self, node: Node) -> tuple[str, Ending]:
        """The value that `node` and what it may apply at once yield, and how."""
        if self._keep or not node.layer.ENDS:
            return node.name, PLAIN
        reader, apply = self._reader(node.name), None
        last = node
        if reader is not None and reader.layer.APPLIES:
            last, apply = reader, reader.layer.apply
        return last.name, Ending(apply, self._border(last) if node.layer.FRAMES else NO_BORDER)

    def _may_change(self, node: Node, name: str) -> bool:
        """Whether the only reader may overwrite the value."""
        return self._reader(name) is not None and not (self._keep and node.layer.KEEPS_OUTPUT)

    def _reader(self, name: str) -> Node | None:
        """The only one that reads the value, and only once."""
        readers = self._readers[name]
        return readers[0] if len(readers) == 1 and name not in self._outputs else None

    def _border(self, node: Node) -> Borders:
        """What the only reader of an image wants around it."""
        reader, size = self._reader(node.name), node.value.shape[:2]
        if reader is None or not isinstance(reader.layer, Convolution) or min(size) < 0:
            return NO_BORDER
        return reader.layer.border((size[0], size[1]))

    def _with_spent(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        last = {source: i for i, step in enumerate(steps) for source in step.node.inputs}
        spent: dict[int, list[str]] = defaultdict(list)
        for name, i in last.items():
            if name not in self._outputs:
                spent[i].append(name)
        return tuple(replace(step, spent=tuple(spent[i])) for i, step in enumerate(steps))

    def _group(self) -> int | None:
        """How many items go through at once; None where no image does."""
        images = [n.value.shape for n in self._nodes if isinstance(n.layer, Convolution)]
        if not images:
            return None
        largest = max(math.prod(abs(size) for size in shape) for shape in images)
        return max(1, GROUP_BYTES // (np.dtype(np.float32).itemsize * largest))
