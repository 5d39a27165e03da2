"""The planner: which node holds what of a version, within each node's free memory. Pure.

Centralized: whole on one node, or on several as replicas. Distributed: as a pipeline of stages or
as tensor shards. The same plan is what a dry run shows and what a deployment carries out; what
cannot fit is refused with each node's numbers, and with a split that would fit if there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from aiaas_async.deploy.assign import Pieces, Split, by_size, could_fit, pieces
from aiaas_async.deploy.costs import HOP_BYTES_PER_S, estimate_costs
from aiaas_async.deploy.figures import Figures, of_shards, of_stage, of_whole
from aiaas_async.errors import InvalidError, MemoryBudgetError, UnplaceableError
from aiaas_async.nn.network import Network
from aiaas_async.nn.shards import TensorPlan
from aiaas_async.nn.split import Costs
from aiaas_async.nn.submodel import Submodel
from aiaas_async.node.coalesce import MAX_BATCH_BYTES

Mode = Literal["centralized", "distributed"]
Count = Annotated[int, msgspec.Meta(ge=1, le=1024)]


class PlanRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for. `replicas` is for centralized, `split` and `nodes` for distributed;
    without `nodes` the fewest are taken that hold it, two at least."""

    mode: Mode = "centralized"
    split: Split = "pipeline"
    nodes: Count | None = None
    replicas: Count = 1
    max_batch_size: Count = 32


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A version as the planner sees it. `network` is None for what has no layer graph, which can
    be placed whole only; `measured` are seconds by layer for a batch of `max_batch_size`."""

    nbytes: int
    network: Network | None = None
    measured: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What one node holds; `submodel` is None where it holds the whole version, `figures` where
    nothing is known of its layers."""

    node: str
    free: int
    nbytes: int
    figures: Figures | None = None
    submodel: Submodel | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """`nodes` in the order of stages or shards; seconds that a batch takes, and items a second
    with batches in flight. `network` and `tensor` are what `execute.py` needs of a split."""

    request: PlanRequest
    nodes: tuple[NodePlan, ...]
    latency_s: float | None = None
    items_per_s: float | None = None
    network: Network | None = None
    tensor: TensorPlan | None = None

    @property
    def split(self) -> bool:
        """Whether no node has the whole version."""
        return self.nodes[0].submodel is not None

    @property
    def micro_batch(self) -> int:
        """Rows that go through the pieces together: no more than `max_batch_size`, nor than lie
        in a message the event loop lays in about a millisecond."""
        largest = max((each.figures.largest for each in self.nodes if each.figures), default=0)
        return max(1, min(self.request.max_batch_size, MAX_BATCH_BYTES // max(1, largest)))

    def to_data(self) -> dict[str, Any]:
        """The dry run, JSON-like; bytes in and out are per item."""
        split = {"split": self.request.split} if self.request.mode == "distributed" else {}
        latency, rate = self.latency_s, self.items_per_s
        return {
            "mode": self.request.mode,
            **split,
            "max_batch_size": self.request.max_batch_size,
            "micro_batch": self.micro_batch,
            "bytes": sum(each.nbytes for each in self.nodes),
            "expected_latency_ms": None if latency is None else _ms(latency),
            "expected_items_per_s": None if rate is None else round(rate, 1),
            "nodes": [_rendered(each, self.network) for each in self.nodes],
        }


def plan(
    request: PlanRequest,
    facts: ModelFacts,
    nodes: Mapping[str, int],
    budgets: Mapping[str, int] | None = None,
) -> Plan:
    """Place a version on `nodes` (id → free bytes).

    Raises `MemoryBudgetError` for what cannot fit, `UnplaceableError` if it would not fit the
    nodes' `budgets` either, which are their bytes when they are empty, and `InvalidError` for more
    nodes than there are or for what cannot be split so.
    """
    try:
        return _planned(request, facts, nodes)
    except MemoryBudgetError as refused:
        if budgets is None or _fits(request, facts, budgets):
            raise
        raise _never(request, refused, budgets) from None


def _fits(request: PlanRequest, facts: ModelFacts, nodes: Mapping[str, int]) -> bool:
    try:
        _planned(request, facts, nodes)
    except MemoryBudgetError:
        return False
    return True


def _planned(request: PlanRequest, facts: ModelFacts, nodes: Mapping[str, int]) -> Plan:
    if request.mode == "centralized":
        return _centralized(request, facts, nodes)
    if facts.network is None:
        raise InvalidError("only a version with a layer graph can be split; deploy it whole")
    costs = _costs(request, facts, facts.network)
    sizes: list[int] = []
    for count in _counts(request, facts.network, nodes):
        try:
            found = pieces(request.split, facts.network, costs, count, nodes)
        except InvalidError:
            if not sizes:
                raise
            break  # fewer pieces could be made, and did not fit
        if found.nodes is not None:
            return _distributed(request, facts.network, found, found.nodes, costs, nodes)
        sizes = found.sizes
    raise _refusal(request, facts, nodes, sizes)


def _counts(request: PlanRequest, network: Network, nodes: Mapping[str, int]) -> list[int]:
    """Over how many nodes to split, in the order in which to try."""
    if request.nodes is not None:
        _check_count(request.nodes, "nodes", nodes)
        return [request.nodes]
    if len(nodes) < 2:
        raise InvalidError(f"a split takes two nodes at least; {_there(nodes)}")
    return [n for n in range(2, len(nodes) + 1) if could_fit(network, n, nodes)] or [2]


def _centralized(request: PlanRequest, facts: ModelFacts, nodes: Mapping[str, int]) -> Plan:
    _check_count(request.replicas, "replicas", nodes)
    sizes = [facts.nbytes] * request.replicas
    chosen = by_size(sizes, nodes)
    if chosen is None:
        raise _refusal(request, facts, nodes, sizes)
    if facts.network is None:
        whole = tuple(NodePlan(node, nodes[node], facts.nbytes) for node in chosen)
        return Plan(request, whole)
    costs = _costs(request, facts, facts.network)
    figures = of_whole(facts.network, costs.seconds)
    latency = figures.seconds + figures.moving(request.max_batch_size)
    placed = tuple(NodePlan(node, nodes[node], facts.nbytes, figures) for node in chosen)
    rate = len(placed) * request.max_batch_size / latency
    return Plan(request, placed, latency, rate, facts.network)


def _distributed(
    request: PlanRequest,
    network: Network,
    found: Pieces,
    chosen: tuple[str, ...],
    costs: Costs,
    nodes: Mapping[str, int],
) -> Plan:
    batch = request.max_batch_size
    if found.tensor is None:
        figures = [of_stage(each, costs.seconds) for each in found.submodels]
        times = [each.seconds + each.moving(batch) for each in figures]
        latency, rate = sum(times), batch / max(times)
    else:
        figures, latency = of_shards(found.tensor, network, costs.seconds, batch)
        rate = batch / latency
    placed = tuple(
        NodePlan(node, nodes[node], each.nbytes, figure, each)
        for node, each, figure in zip(chosen, found.submodels, figures, strict=True)
    )
    return Plan(request, placed, latency, rate, network, found.tensor)


def _costs(request: PlanRequest, facts: ModelFacts, network: Network) -> Costs:
    batch = request.max_batch_size
    found = estimate_costs(network, batch, facts.measured)
    return Costs({cost.layer: cost.seconds for cost in found}, batch / HOP_BYTES_PER_S)


def _check_count(count: int, what: str, nodes: Mapping[str, int]) -> None:
    if count > len(nodes):
        raise InvalidError(
            f"{count} {what} were asked for, each on a node of its own; {_there(nodes)}"
        )


def _there(nodes: Mapping[str, int]) -> str:
    names = ", ".join(nodes) or "none"
    return f"there is one: {names}" if len(nodes) == 1 else f"there are {len(nodes)}: {names}"


def _refusal(
    request: PlanRequest, facts: ModelFacts, nodes: Mapping[str, int], sizes: list[int]
) -> MemoryBudgetError:
    found = {"needed": sizes, "free": dict(nodes), "instead": _instead(request, facts, nodes)}
    hint = "use more nodes, unload versions, or raise node_memory_mb"
    return MemoryBudgetError(_said(request, found, hint), found)


def _never(
    request: PlanRequest, refused: MemoryBudgetError, budgets: Mapping[str, int]
) -> UnplaceableError:
    empty = {**refused.details, "free": budgets}
    said = _said(request, empty, "use more nodes, or raise node_memory_mb")
    details = {**refused.details, "budgets": dict(budgets)}
    return UnplaceableError(f"it does not fit on empty nodes either: {said}", details)


def _said(request: PlanRequest, refused: Mapping[str, Any], hint: str) -> str:
    """What a refusal's details say; the `hint` is for where no other request would fit."""
    what = "the whole version" if request.mode == "centralized" else f"a {request.split} split"
    needed = " + ".join(map(str, refused["needed"]))
    free = ", ".join(f"{node} {nbytes}" for node, nbytes in refused["free"].items())
    if (instead := refused["instead"]) is not None:
        hint = f"it would fit with {_words(instead)}"
    return f"{what} needs {needed} bytes, one piece on each node; free bytes: {free}; {hint}"


def _instead(
    request: PlanRequest, facts: ModelFacts, nodes: Mapping[str, int]
) -> dict[str, Any] | None:
    """A request that would fit, with as few nodes as can be."""
    if facts.network is None:
        return None
    costs = _costs(request, facts, facts.network)
    splits: tuple[Split, ...] = ("pipeline", "tensor")
    for count in range(2, min(len(nodes), 8) + 1):
        for split in splits if could_fit(facts.network, count, nodes) else ():
            try:
                found = pieces(split, facts.network, costs, count, nodes)
            except InvalidError:
                continue
            if found.nodes is not None:
                return {"mode": "distributed", "split": split, "nodes": count}
    return None


def _words(request: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in request.items())


def _rendered(placed: NodePlan, network: Network | None) -> dict[str, Any]:
    found: dict[str, Any] = {"node": placed.node, "bytes": placed.nbytes, "free": placed.free}
    if placed.submodel is not None:
        found["layers"] = list(placed.submodel.layers)
    elif network is not None:
        found["layers"] = [node.name for node in network.graph.nodes]
    if placed.figures is not None:
        found["expected_ms"] = _ms(placed.figures.seconds)
        found["bytes_in"], found["bytes_out"] = placed.figures.bytes_in, placed.figures.bytes_out
    return found


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
