"""Deficit round robin (Shreedhar and Varghese 1996): flows take turns, each turn worth some
seconds of expected work.

Each tenant has a flow for each kind of work: its calls, its batch jobs. A flow with work waiting
is served at least its share of any busy stretch, less one turn and one item, whatever
the others bring: a batch job of a million items delays a call by one turn. Nor can a flood keep
others out of a full queue: the tenant with the most waiting gives way (longest queue drop:
Suter, Lakshman, Stiliadis and Choudhury 1998).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Generic

from aiaas_async.schedule.fifo import Fifo
from aiaas_async.schedule.waiting import W

QUANTUM_S: Final = 0.002
# What costs nothing could be served for ever in one turn.
LEAST_COST_S: Final = 50e-6
_EQUAL: Final[Mapping[str, float]] = {}


class _Flow(Generic[W]):
    __slots__ = ("credit", "items", "kind", "tenant", "turn")

    def __init__(self, tenant: str, kind: str, turn: float) -> None:
        self.tenant, self.kind, self.turn = tenant, kind, turn  # seconds
        self.items: Fifo[W] = Fifo()
        self.credit = 0.0

    @property
    def head_cost(self) -> float:
        return cost_of(next(iter(self.items)))


class Fair(Generic[W]):
    """`weights` of kinds of work and of `tenants` multiply a flow's turn; 1 where none is given.
    Within a flow: in order."""

    def __init__(
        self,
        weights: Mapping[str, float] = _EQUAL,
        quantum_s: float = QUANTUM_S,
        tenants: Mapping[str, float] = _EQUAL,
    ) -> None:
        self._weights, self._quantum, self._tenants = weights, quantum_s, tenants
        self._flows: dict[tuple[str, str], _Flow[W]] = {}
        # The flows with work. It is the first one's turn, and its credit has been granted.
        self._turns: deque[_Flow[W]] = deque()
        self._last: _Flow[W] | None = None  # to leave: most likely it comes back
        self._count = 0

    def push(self, item: W) -> None:
        flow = self._flows.get((item.tenant, item.flow)) or self._enter(item.tenant, item.flow)
        flow.items.push(item)
        self._count += 1

    def _enter(self, tenant: str, kind: str) -> _Flow[W]:
        flow = self._last
        if flow is None or flow.tenant != tenant or flow.kind != kind:
            turn = self._quantum * self._weights.get(kind, 1.0) * self._tenants.get(tenant, 1.0)
            flow = _Flow(tenant, kind, turn)
        self._last = None
        self._flows[tenant, kind] = flow
        self._turns.append(flow)
        flow.credit = flow.turn if len(self._turns) == 1 else 0.0
        return flow

    def pop(self) -> W:
        flow = self._turns[0] if len(self._turns) == 1 else self._next_flow()
        item = flow.items.pop()
        self._charge(flow, [item])
        return item

    def _next_flow(self) -> _Flow[W]:
        """The flow whose turn it is and whose credit covers its first item."""
        turns = self._turns
        if turns[0].credit < turns[0].head_cost:
            self._pass_turn()
            for _ in range(len(turns)):
                if turns[0].credit >= turns[0].head_cost:
                    return turns[0]
                self._pass_turn()
            self._skip_rounds()
            while turns[0].credit < turns[0].head_cost:
                self._pass_turn()
        return turns[0]

    def _pass_turn(self) -> None:
        self._turns.rotate(-1)
        self._turns[0].credit += self._turns[0].turn

    def _skip_rounds(self) -> None:
        """Credit at once the whole rounds in which no flow could be served."""
        rounds = min(math.ceil((f.head_cost - f.credit) / f.turn) for f in self._turns) - 1
        for flow in self._turns:
            flow.credit += flow.turn * max(0, rounds)

    def _charge(self, flow: _Flow[W], taken: Sequence[W]) -> None:
        """Pay for what was taken; a flow without work keeps no credit, nor a debt."""
        self._count -= len(taken)
        # Alone it has no one to be fair to: neither does it save up, nor does it owe.
        alone = len(self._turns) == 1
        flow.credit = flow.turn if alone else flow.credit - sum(map(cost_of, taken))
        if not len(flow.items):
            self._leave(flow)

    def _leave(self, flow: _Flow[W]) -> None:
        first = self._turns[0] is flow
        self._turns.remove(flow)
        del self._flows[flow.tenant, flow.kind]
        self._last = flow
        if first and self._turns:
            self._turns[0].credit += self._turns[0].turn

    def take_like(self, fits: Callable[[W], bool], limit: int) -> list[W]:
        """Company for what was popped: its flow pays for it, into debt if need be."""
        taken: list[W] = []
        for flow in list(self._turns):
            if len(taken) >= limit:
                break
            company = flow.items.take_like(fits, limit - len(taken))
            self._charge(flow, company)
            taken += company
        return taken

    def give_way(self, item: W) -> W | None:
        """The newest of the tenant that has the most waiting for its weight, if that is more than
        `item`'s own tenant would have with it."""
        if all(flow.tenant == item.tenant for flow in self._turns):
            return None  # the usual case, and a refusal should cost little
        held = Counter[str]()
        for flow in self._turns:
            held[flow.tenant] += len(flow.items)
        held[item.tenant] += 1
        most = max(held, key=lambda tenant: (self._part(held, tenant), tenant))
        if self._part(held, most) <= self._part(held, item.tenant):
            return None
        flows = [flow for flow in self._turns if flow.tenant == most]
        flow = max(flows, key=lambda flow: len(flow.items))
        self._count -= 1
        last = flow.items.pop_last()
        if not len(flow.items):
            self._leave(flow)
        return last

    def _part(self, held: Mapping[str, int], tenant: str) -> float:
        return held[tenant] / self._tenants.get(tenant, 1.0)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[W]:
        return (item for flow in self._turns for item in flow.items)

    def __repr__(self) -> str:
        flows = ", ".join(f"{flow.tenant}'s {flow.kind}: {len(flow.items)}" for flow in self._turns)
        return f"<Fair: {flows or 'nothing waits'}>"


def cost_of(item: W) -> float:
    """What an item takes from its flow's credit, in seconds."""
    return max(LEAST_COST_S, item.expected_s)
