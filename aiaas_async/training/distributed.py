"""Synchronous data-parallel training: the loop of `loop.py`, each batch divided over a crew.

The batches are those of a single worker: the epoch's order follows from the seed alone, and each
worker computes its part of each batch. Their gradients, weighted by items, are added up in a fixed
order through shared memory, so the number of workers shows only in the rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np

from aiaas_async.errors import InvalidError
from aiaas_async.nn.batches import minibatches
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from aiaas_async.nn.normalisation import BatchNorm
from aiaas_async.training.crew import Crew, Memory, Number
from aiaas_async.training.items import Indices
from aiaas_async.training.loop import Sums, Training
from aiaas_async.training.reduce import Vector
from aiaas_async.training.state import Best, Params, State

_ALL: Final = ""  # the flat vector's name for the optimiser


@dataclass(frozen=True, slots=True)
class SharedTraining(Training):
    """A training of which this worker does its part. `stop_requested` is asked by the first."""

    crew: Crew
    stop_requested: Callable[[], bool]

    def begin(self, state: State) -> Generator[State, None, State]:
        """`state`, the same for all, in the shared memory."""
        crew = self.crew
        state = replace(state, params=dict(state.params), slots=dict(state.slots))
        params, slots = self._views()
        if crew.rank == 0:
            for name, view in params.items():
                np.copyto(view, state.params[name])
            for name, view in slots.items():
                np.copyto(view, state.slots[name])
        yield from self._meet(state)
        params = {**state.params, **params}
        return replace(state, params=params, slots={**slots, "step": state.slots["step"]})

    def _views(self) -> tuple[dict[str, Array], dict[str, Array]]:
        vector, names = vector_of(self), slot_names(self)
        slots = {
            f"{slot}{name}": view
            for slot, flat in zip(names, self.crew.slots, strict=True)
            for name, view in vector.views(flat).items()
        }
        return vector.views(self.crew.weights), slots

    def _step(self, state: State, indices: Indices) -> Generator[State, None, State]:
        started, sums = time.perf_counter(), Sums(len(indices))
        for part, at in enumerate(minibatches(len(indices), self.plan.batch_size)):
            if part:
                yield state
            state = replace(state, params=self._learn_share(state, part, indices[at], sums))
        return (yield from self._exchange(state, sums, started))

    def _learn_share(self, state: State, part: int, batch: Indices, sums: Sums) -> Params:
        """The parameters, with new running statistics where one worker sees whole batches."""
        started, rows = time.perf_counter(), self.crew.share(len(batch))
        params = state.params
        if rows.stop > rows.start:
            rng = self.dropout(state.step, part)
            if self.crew.world > 1:
                rng = _Rows(rng, len(batch), rows)
            params = self.learn(state, params, batch[rows], rng, sums)
        self.crew.beat(time.perf_counter() - started)
        return params

    def _exchange(self, state: State, sums: Sums, started: float) -> Generator[State, None, State]:
        """Gradients to sums to the next weights; three meetings, each worker a segment."""
        crew = self.crew
        crew.offer(sums.grads)
        crew.say(Number.LOSS, sums.loss, sums.right, sums.decided)
        yield from self._meet(state)
        _agree(crew, Number.LOSS, sums)
        self.check_finite("loss", sums.loss, state)
        grad = crew.reduce()
        with np.errstate(all="ignore"):
            crew.say(Number.NORM, float(np.vdot(grad, grad)))
        yield from self._meet(state)
        size = math.sqrt(crew.total(Number.NORM))
        self.check_finite("gradient's norm", size, state)
        slots = self._take_step(state, grad, size)
        if crew.rank == 0 and self.stop_requested():
            crew.order_stop()
        yield from self._meet(state)
        sums.seconds = time.perf_counter() - started
        after = replace(state, slots={**state.slots, "step": slots["step"]})
        return self.stepped(after, sums, size, self.rate(state))

    def _take_step(self, state: State, grad: Array, size: float) -> Mapping[str, Array]:
        """The optimiser's step on this worker's segment, in place; its new slots."""
        crew, limit, mine = self.crew, self.plan.clip_norm, self.crew.mine
        if limit is not None and size > limit:
            grad *= limit / size
        names = slot_names(self)
        slots = {slot: flat[mine] for slot, flat in zip(names, crew.slots, strict=True)}
        old = {_ALL: crew.weights[mine]}
        with np.errstate(all="ignore"):
            new, after = self.plan.optimizer.step(
                {**slots, "step": state.slots["step"]}, old, {_ALL: grad}, self.rate(state)
            )
        np.copyto(old[_ALL], new[_ALL])
        for slot, view in slots.items():
            np.copyto(view, after[slot])
        return after

    def _validation(self, state: State) -> Generator[State, None, Sums]:
        kept, crew = self.split.validation, self.crew
        sums = Sums(len(kept))
        for at in minibatches(len(kept), self.plan.batch_size):
            yield state
            batch = kept[at]
            rows = crew.share(len(batch))
            if rows.stop > rows.start:
                self.validate(state.params, batch[rows], sums)
            crew.beat()
        if len(kept):
            crew.say(Number.VALIDATION, sums.loss, sums.right, sums.decided)
            yield from self._meet(state)
            _agree(crew, Number.VALIDATION, sums)
        return sums

    def _best(self, state: State, facts: dict[str, Any]) -> Best | None:
        best = Training._best(self, state, facts)  # noqa: SLF001 - super() fails in a slots class
        if best is None or best is state.best:
            return best
        # The weights go on changing in place; only the first worker hands them out.
        kept = {n: a.copy() for n, a in best.params.items()} if self.crew.rank == 0 else {}
        return replace(best, params=kept)

    def _meet(self, state: State) -> Iterator[State]:
        for _ in self.crew.meet():
            yield state


class _Rows(np.random.Generator):
    """Draws for a whole batch and gives some of its rows: what they get does not depend on who
    computes them."""

    def __init__(self, whole: np.random.Generator, count: int, rows: slice) -> None:
        super().__init__(whole.bit_generator)
        self._count, self._rows = count, rows

    def random(  # type: ignore[override]
        self, size: Any = None, dtype: Any = np.float64, out: None = None
    ) -> Any:
        drawn = super().random((self._count, *size[1:]), dtype, out)
        return drawn[self._rows]


def _agree(crew: Crew, at: Number, sums: Sums) -> None:
    """Everybody's sums in the place of one's own."""
    sums.loss = crew.total(at)
    sums.right = int(crew.total(at + 1))
    sums.decided = int(crew.total(at + 2))


def vector_of(training: Training) -> Vector:
    """The trained parameters; every worker has the others, which do not change."""
    specs = training.network.parameter_specs()
    return Vector.of({name: specs[name][0] for name in training.network.trained_parameters})


def slot_names(training: Training) -> list[str]:
    """What the optimiser keeps for each parameter: "momentum.", …"""
    made_for_all = training.plan.optimizer.init({_ALL: np.zeros(1)})
    return [name for name in made_for_all if name != "step"]


def shared(
    training: Training,
    memory: Memory,
    place: tuple[int, int],
    stop_requested: Callable[[], bool] = lambda: False,
    dtype: Any = np.float32,
) -> SharedTraining:
    """`training` as worker `place` (rank, world) does it. Raises `InvalidError`."""
    check_divisible(training.network, place[1])
    crew = Crew(memory, vector_of(training), len(slot_names(training)), place, dtype)
    known = {field.name: getattr(training, field.name) for field in fields(Training)}
    return SharedTraining(**known, crew=crew, stop_requested=stop_requested)


def check_divisible(network: Network, world: int) -> None:
    """Raise `InvalidError` for a graph that computes something else when batches are divided."""
    for node in network.graph.nodes:
        if isinstance(node.layer, BatchNorm) and network.trained(node) and world > 1:
            raise InvalidError(
                f"layer {node.name!r}: batch_norm's statistics run over a whole batch, which no "
                "node of a distributed run sees; use layer_norm, or nodes: 1"
            )
