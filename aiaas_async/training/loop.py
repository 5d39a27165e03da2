"""The training loop: a generator of states, each a pure function of the one before and the seed.

Shuffling is keyed by (seed, epoch) and dropout by (seed, step), so any state can be taken up
again, here or in another process, and goes on bit for bit as if it had never been put down.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from aiaas_async.errors import DivergedError, InvalidError
from aiaas_async.nn.batches import epoch_order, minibatches
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from aiaas_async.nn.optim import clip_by_norm, norm
from aiaas_async.runtimes.objective import Objective, objective
from aiaas_async.training.items import Indices, Items, Split, Wiring, split_items, wire
from aiaas_async.training.plan import TrainingPlan
from aiaas_async.training.state import Best, Params, State, Tally

# Keys of dropout lie above those of epochs (`batches.epoch_order`), so no stream is used twice.
_DROPOUT_KEYS: Final = 2**63


@dataclass(slots=True)
class Sums:
    """What the batches of one step, or of one validation, add up to. `loss` and `grads` are
    means over the items, weighted so far by their share of `total` items."""

    total: int
    loss: float = 0.0
    right: int = 0
    decided: int = 0
    seconds: float = 0.0
    grads: dict[str, Array] | None = None

    def add(self, aim: Objective, y: Array, target: Array) -> Array:
        """Take up a batch of predictions; gives the slope of the mean loss over all items."""
        value, slope = aim(y, target)
        share = len(y) / self.total
        self.loss += value * share
        right, decided = aim.decisions(y, target) or (0, 0)
        self.right, self.decided = self.right + right, self.decided + decided
        return slope if share == 1.0 else slope * slope.dtype.type(share)

    def add_gradients(self, grads: dict[str, Array]) -> None:
        if self.grads is None:
            self.grads = grads
        else:
            self.grads = {name: self.grads[name] + grad for name, grad in grads.items()}


@dataclass(frozen=True, slots=True)
class Training:
    """Everything about a run that does not change while it runs."""

    network: Network
    plan: TrainingPlan
    aim: Objective
    items: Items
    wiring: Wiring
    split: Split

    @property
    def steps_per_epoch(self) -> int:
        whole = self.plan.method == "gd"
        return 1 if whole else -(-len(self.split.train) // self.step_size)

    @property
    def step_size(self) -> int:
        """Items of a whole step."""
        return self.plan.batch_size * self.plan.accumulate

    @property
    def total_steps(self) -> int:
        return self.plan.epochs * self.steps_per_epoch

    def start(self, params: Params) -> State:
        known = {name: params[name] for name in self.network.parameter_specs()}
        trained = {name: params[name] for name in self.network.trained_parameters}
        return State(known, self.plan.optimizer.init(trained))

    def over(self, state: State) -> bool:
        stopping = self.plan.early_stopping
        if stopping is not None and state.best is not None:
            patience_lost = state.epoch - state.best.epoch >= stopping.patience
            return patience_lost or state.epoch >= self.plan.epochs
        return state.epoch >= self.plan.epochs

    def run(self, state: State) -> Iterator[State]:
        """The newest state after each batch, from `state` to the end; the same one again while
        a step or a validation takes several batches.

        Raises `DivergedError` when a loss or a gradient is not finite.
        """
        while not self.over(state):
            order = self.split.train[self._order(state.epoch)]
            for batch in range(state.batch, self.steps_per_epoch):
                state = yield from self._step(state, self._batch(order, batch))
                yield state
            state = yield from self._end_epoch(state)
            yield state

    def _order(self, epoch: int) -> Indices:
        return epoch_order(len(self.split.train), self.plan.seed, epoch)

    def _batch(self, order: Indices, number: int) -> Indices:
        if self.plan.method == "gd":
            return order
        return order[number * self.step_size :][: self.step_size]

    def _step(self, state: State, indices: Indices) -> Generator[State, None, State]:
        sums, params = Sums(len(indices)), state.params
        for part, at in enumerate(minibatches(len(indices), self.plan.batch_size)):
            if part:
                yield state
            params = self._learn(state, part, params, indices[at], sums)
        return self._update(state, params, sums)

    def dropout(self, step: int, part: int) -> np.random.Generator:
        """What dropout draws from in one batch of a step."""
        return np.random.Generator(
            np.random.Philox(
                key=np.array([self.plan.seed, _DROPOUT_KEYS + step], np.uint64),
                counter=np.array([0, 0, 0, part], np.uint64),
            )
        )

    def _learn(
        self, state: State, part: int, params: Params, indices: Indices, sums: Sums
    ) -> Params:
        return self.learn(state, params, indices, self.dropout(state.step, part), sums)

    def learn(
        self,
        state: State,
        params: Params,
        indices: Indices,
        rng: np.random.Generator,
        sums: Sums,
    ) -> Params:
        """Add the gradients of one batch to `sums`; gives `params` with new running statistics."""
        started = time.perf_counter()
        inputs, target = self.wiring.split(self.items.take(indices))
        with np.errstate(all="ignore"):  # what overflows shows in the loss, which is checked
            found, cache = self.network.forward(
                params, inputs, training=True, rng=rng, outputs=[self.aim.output]
            )
            slope = sums.add(self.aim, found[self.aim.output], target)
            self.check_finite("loss", sums.loss, state)
            _, grads = self.network.backward(
                params, cache, {self.aim.output: slope}, wrt_inputs=False, wrt_params=True
            )
            sums.add_gradients(grads)
        sums.seconds += time.perf_counter() - started
        return {**params, **cache.updates} if cache.updates else params

    def _update(self, state: State, params: Params, sums: Sums) -> State:
        """One step of the optimiser, and the epoch's sums with it."""
        started, plan, rate = time.perf_counter(), self.plan, self.rate(state)
        grads = sums.grads or {}
        with np.errstate(all="ignore"):
            if plan.clip_norm is None:
                size = norm(grads)
            else:
                grads, size = clip_by_norm(grads, plan.clip_norm)
            self.check_finite("gradient's norm", size, state)
            params, slots = plan.optimizer.step(state.slots, params, grads, rate)
        sums.seconds += time.perf_counter() - started
        after = replace(state, params=params, slots=slots)
        return self.stepped(after, sums, size, rate)

    def rate(self, state: State) -> float:
        """The learning rate of the step that follows `state`."""
        return self.plan.learning_rate * self.plan.schedule.factor(state.step, self.total_steps)

    def stepped(self, state: State, sums: Sums, size: float, rate: float) -> State:
        """`state` counted one step on: `size` is the norm of the step's gradient."""
        tally = Tally(
            loss=state.tally.loss + sums.loss * sums.total,
            items=state.tally.items + sums.total,
            right=state.tally.right + sums.right,
            decided=state.tally.decided + sums.decided,
            norm=state.tally.norm + size,
            steps=state.tally.steps + 1,
            learning_rate=rate,
            seconds=state.tally.seconds + sums.seconds,
        )
        return replace(state, batch=state.batch + 1, step=state.step + 1, tally=tally)

    def check_finite(self, what: str, value: float, state: State) -> None:
        """Raise `DivergedError` where `value` is not finite."""
        if not math.isfinite(value):
            raise DivergedError(
                f"training diverged: the {what} became {value} at step {state.step + 1} (epoch "
                f"{state.epoch + 1}); lower learning_rate {self.plan.learning_rate:g}, or set "
                "clip_norm",
                {"step": state.step + 1, "epoch": state.epoch + 1},
            )

    def _end_epoch(self, state: State) -> Generator[State, None, State]:
        sums = yield from self._validation(state)
        self.check_finite("validation loss", sums.loss, state)
        facts = self._facts(state, sums)
        return replace(
            state,
            epoch=state.epoch + 1,
            batch=0,
            tally=Tally(),
            best=self._best(state, facts),
            history=(*state.history, facts),
        )

    def _validation(self, state: State) -> Generator[State, None, Sums]:
        sums = Sums(len(self.split.validation))
        for at in minibatches(len(self.split.validation), self.plan.batch_size):
            yield state
            self.validate(state.params, self.split.validation[at], sums)
        return sums

    def validate(self, params: Params, indices: Indices, sums: Sums) -> None:
        """Add the losses and decisions of some items to `sums`."""
        inputs, target = self.wiring.split(self.items.take(indices))
        with np.errstate(all="ignore"):
            found = self.network.predict(params, inputs, [self.aim.output])
            sums.add(self.aim, found[self.aim.output], target)

    def _facts(self, state: State, validation: Sums) -> dict[str, Any]:
        """The epoch's entry in the history."""
        tally = state.tally
        facts: dict[str, Any] = {
            "epoch": state.epoch + 1,
            "step": state.step,
            "loss": tally.loss / tally.items,
        }
        if tally.decided:
            facts["accuracy"] = tally.right / tally.decided
        if validation.total:
            facts["val_loss"] = validation.loss
        if validation.decided:
            facts["val_accuracy"] = validation.right / validation.decided
        return facts | {
            "grad_norm": tally.norm / tally.steps,
            "learning_rate": tally.learning_rate,
            "samples_per_second": round(tally.items / max(tally.seconds, 1e-9), 1),
        }

    def _best(self, state: State, facts: dict[str, Any]) -> Best | None:
        stopping = self.plan.early_stopping
        if stopping is None:
            return None
        value, best = facts[stopping.metric], state.best
        if best is not None:
            gain = best.value - value if stopping.metric == "val_loss" else value - best.value
            if not gain > stopping.min_delta:
                return best
        return Best(value, state.epoch + 1, state.params)


def prepare(network: Network, plan: TrainingPlan, items: Items) -> Training:
    """Check that plan, graph and data go together. Raises `InvalidError` or `GraphError`."""
    aim = objective(network, plan.output, plan.loss)
    if plan.trainable is not None:
        network = network.training_only(plan.trainable)
    stopping = plan.early_stopping
    if stopping is not None and stopping.metric == "val_accuracy" and aim.loss == "mse":
        raise InvalidError("plan.early_stopping: a loss of mse has no accuracy; watch val_loss")
    if not network.parameter_specs():
        raise InvalidError("the graph has no parameters: there is nothing to train")
    wiring = wire(network, items.columns, plan)
    return Training(network, plan, aim, items, wiring, split_items(len(items), plan))
