"""The loop learns, repeats itself bit for bit, and goes on from any of its states."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.errors import DivergedError, InputError, InvalidError
from aiaas_async.nn.batches import epoch_order
from aiaas_async.nn.losses import cross_entropy
from aiaas_async.nn.network import Network
from aiaas_async.training.loop import prepare
from aiaas_async.training.plan import parse_plan
from aiaas_async.training.state import State
from tests.training.data import (
    GRAPH,
    Memory,
    assert_same,
    begun,
    finished,
    items,
    training,
    without_speed,
)

PLANS: list[dict[str, Any]] = [
    {"epochs": 3, "batch_size": 16, "optimizer": "adam", "learning_rate": 0.01},
    {"epochs": 3, "batch_size": 16, "method": "gd", "momentum": 0.9},
    {"epochs": 4, "batch_size": 20, "clip_norm": 0.1, "schedule": "cosine"},
    {"epochs": 9, "batch_size": 16, "early_stopping": {"patience": 2}, "optimizer": "adamw"},
]
PLAIN = {**GRAPH, "layers": [each for each in GRAPH["layers"] if each["op"] != "dropout"]}
PLAIN["layers"] = [each for each in PLAIN["layers"] if each["op"] != "batch_norm"]


def test_three_clouds_are_told_apart_and_the_history_says_so() -> None:
    state = finished(training(300, epochs=12, optimizer="adam", learning_rate=0.02))
    first, last = state.history[0], state.history[-1]
    assert last["val_accuracy"] >= 0.9
    assert last["loss"] < first["loss"]
    assert [each["epoch"] for each in state.history] == list(range(1, 13))
    assert last["step"] == state.step == 12 * math.ceil(270 / 32)
    assert set(last) == {
        "epoch", "step", "loss", "accuracy", "val_loss", "val_accuracy",
        "grad_norm", "learning_rate", "samples_per_second",
    }  # fmt: skip


@pytest.mark.parametrize("plan", PLANS)
def test_the_same_seed_gives_the_same_bits_and_another_gives_others(plan: dict[str, Any]) -> None:
    one = finished(training(seed=5, **plan))
    assert_same(one, finished(training(seed=5, **plan)))
    other = finished(training(seed=6, **plan))
    assert other.params["logits.weight"].tobytes() != one.params["logits.weight"].tobytes()


@given(plan=st.sampled_from(PLANS), data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_run_resumed_from_any_state_ends_as_an_unbroken_one(
    plan: dict[str, Any], data: st.DataObject
) -> None:
    run = training(**plan)
    states = [begun(run), *run.run(begun(run))]
    at = data.draw(st.integers(0, len(states) - 1))
    assert_same(finished(training(**plan), states[at]), states[-1])


def test_states_are_never_changed_by_the_steps_after_them() -> None:
    run = training(**PLANS[0])
    start = begun(run)
    kept = {name: array.tobytes() for name, array in (*start.params.items(), *start.slots.items())}
    finished(run, start)
    after = {name: array.tobytes() for name, array in (*start.params.items(), *start.slots.items())}
    assert after == kept


def test_full_batch_steps_are_the_same_whatever_the_size_of_the_parts() -> None:
    runs = [
        finished(training(graph=PLAIN, method="gd", epochs=3, batch_size=size)) for size in (7, 64)
    ]
    assert runs[0].step == runs[1].step == 3
    for name, array in runs[0].params.items():
        np.testing.assert_allclose(array, runs[1].params[name], rtol=1e-5, atol=1e-6)
    assert runs[0].history[-1]["loss"] == pytest.approx(runs[1].history[-1]["loss"], rel=1e-5)


def test_a_full_batch_step_is_the_gradient_of_all_training_items() -> None:
    run = training(graph=PLAIN, method="gd", epochs=1, batch_size=64, learning_rate=0.5)
    start, end = begun(run), finished(run)
    order = run.split.train[epoch_order(len(run.split.train), 0, 0)]
    arrays = run.items.take(order)
    found, cache = run.network.forward(start.params, {"x": arrays["x"]}, outputs=["logits"])
    _, slope = cross_entropy(found["logits"], arrays["y"])
    _, grads = run.network.backward(
        start.params, cache, {"logits": slope}, wrt_inputs=False, wrt_params=True
    )
    for name, grad in grads.items():
        np.testing.assert_array_equal(end.params[name], start.params[name] - np.float32(0.5) * grad)


def test_every_training_item_is_met_once_an_epoch_and_none_kept_back() -> None:
    met: list[int] = []

    class Watching(Memory):
        def take(self, indices: Any) -> Any:
            met.extend(indices.tolist())
            return super().take(indices)

    given = items(50)
    plan = parse_plan({"epochs": 1, "batch_size": 8})
    run = prepare(Network.from_spec(GRAPH), plan, Watching(given.arrays, given.columns))
    state = begun(run)
    for _ in range(math.ceil(45 / 8)):
        state = next(iter(run.run(state)))
    assert sorted(met) == run.split.train.tolist()
    assert met != sorted(met)


def test_early_stopping_ends_the_run_and_hands_out_the_best_epoch() -> None:
    run = training(
        60, epochs=500, optimizer="adam", learning_rate=0.05, early_stopping={"patience": 3}
    )
    state = finished(run)
    losses = [each["val_loss"] for each in state.history]
    best = int(np.argmin(losses))
    assert state.best is not None
    assert len(losses) < 500
    assert len(losses) == best + 1 + 3
    assert state.metrics == state.history[best]
    assert state.best.epoch == best + 1
    again = finished(training(60, epochs=best + 1, optimizer="adam", learning_rate=0.05))
    assert state.resulting["logits.weight"].tobytes() == again.params["logits.weight"].tobytes()


def test_without_validation_there_are_no_validation_metrics() -> None:
    state = finished(training(epochs=1, validation=0))
    assert not [name for name in state.history[0] if name.startswith("val_")]


@pytest.mark.parametrize("plan", [{}, {"method": "gd"}])
def test_a_run_that_diverges_says_where_and_what_to_do(plan: dict[str, Any]) -> None:
    seen: list[State] = []
    run = training(learning_rate=1e6, epochs=50, graph=PLAIN, momentum=0.9, **plan)
    with pytest.raises(DivergedError, match=r"at step \d+ .epoch \d+.; lower learning_rate 1e\+06"):
        seen.extend(run.run(begun(run)))
    assert all(np.isfinite(each["loss"]) for each in seen[-1].history)


def test_items_that_are_not_numbers_diverge_at_once() -> None:
    given = items(40)
    given.arrays["x"][3] = np.nan
    run = prepare(Network.from_spec(PLAIN), parse_plan({"validation": 0}), given)
    with pytest.raises(DivergedError, match="the loss became nan"):
        finished(run)


def test_targets_outside_the_classes_are_named() -> None:
    given = items(40)
    given.arrays["y"][:] = 7
    with pytest.raises(InputError, match="class numbers lie in 0 to 2; got 7"):
        finished(prepare(Network.from_spec(GRAPH), parse_plan({}), given))


def test_a_plan_and_a_graph_that_cannot_go_together_are_refused() -> None:
    with pytest.raises(InvalidError, match="mse has no accuracy"):
        training(loss="mse", early_stopping={"metric": "val_accuracy"})
    graph = {**GRAPH, "layers": [{"name": "s", "op": "scale"}], "outputs": ["s"]}
    with pytest.raises(InvalidError, match="nothing to train"):
        training(graph=graph)


def test_regression_on_one_number_an_item_learns_and_has_no_accuracy() -> None:
    graph = {**GRAPH, "layers": [{"name": "out", "op": "dense", "units": 1}], "outputs": ["out"]}
    state = finished(training(200, graph=graph, epochs=20, learning_rate=0.02))
    assert state.history[-1]["val_loss"] < state.history[0]["val_loss"]
    assert "accuracy" not in state.history[-1]


def test_the_generator_yields_within_a_full_batch_and_within_a_validation() -> None:
    """So that a stop is heard however large the data set is."""
    run = training(100, method="gd", epochs=1, batch_size=10, validation=0.5)
    states = list(run.run(begun(run)))
    assert len(states) == 5 + 5 + 1
    assert [state.step for state in states] == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]
    assert without_speed(states[-1])[0]["epoch"] == 1
