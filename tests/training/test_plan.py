"""A plan says all of itself back, and what it cannot be is named with what is near."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import InvalidError
from aiaas_async.nn.optim import AdamW, Sgd
from aiaas_async.nn.schedules import Step
from aiaas_async.training.plan import EarlyStopping, parse_plan, render_plan


def test_an_empty_plan_has_every_default() -> None:
    plan = parse_plan({})
    assert (plan.method, plan.epochs, plan.batch_size, plan.seed) == ("sgd", 10, 32, 0)
    assert (plan.optimizer, plan.learning_rate, plan.validation) == (Sgd(), 0.05, 0.1)
    assert parse_plan({"optimizer": "adam"}).learning_rate == 0.001


def test_optimizers_and_schedules_take_their_options() -> None:
    plan = parse_plan(
        {
            "optimizer": {"name": "adamw", "weight_decay": 0.1},
            "schedule": {"name": "step", "every": 5},
            "early_stopping": {"metric": "val_accuracy", "patience": 3},
        }
    )
    assert plan.optimizer == AdamW(weight_decay=0.1)
    assert plan.schedule == Step(every=5)
    assert plan.early_stopping == EarlyStopping(metric="val_accuracy", patience=3)
    assert parse_plan({"momentum": 0.9}).optimizer == Sgd(momentum=0.9)
    nesterov = {"name": "sgd", "nesterov": True}
    assert parse_plan({"momentum": 0.9, "optimizer": nesterov}).optimizer == Sgd(
        momentum=0.9, nesterov=True
    )


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ([], "plan must be an object"),
        ({"epoch": 3}, "no field 'epoch'; did you mean 'epochs'"),
        ({"epochs": 0}, "plan.epochs must be a whole number of at least 1, got 0"),
        ({"epochs": 100_001}, "plan.epochs must be .* of at most 100000, got 100001"),
        ({"epochs": True}, "plan.epochs must be a whole number, got True"),
        ({"batch_size": 2**20 + 1}, "plan.batch_size"),
        ({"method": "adam"}, "plan.method must be one of distributed, gd, sgd, got 'adam'"),
        ({"optimizer": "adma"}, "plan.optimizer: 'adma' is not known; did you mean 'adam"),
        ({"optimizer": {"lr": 1}}, "plan.optimizer: None is not known; possible: sgd, adam"),
        ({"optimizer": {"name": "sgd", "momentun": 1}}, "did you mean 'momentum'"),
        ({"optimizer": {"name": "adam", "beta1": 1.0}}, "plan.optimizer.beta1 must be .*got 1.0"),
        ({"momentum": 0.9, "optimizer": "adam"}, "plan.momentum is for the optimizer sgd"),
        ({"momentum": 1, "optimizer": {"name": "sgd", "momentum": 1}}, "are both given"),
        ({"momentum": 1.0}, "plan.optimizer.momentum"),
        ({"learning_rate": 0}, "plan.learning_rate"),
        ({"learning_rate": float("nan")}, "plan.learning_rate must be finite"),
        ({"learning_rate": 1e999}, "plan.learning_rate must be finite"),
        ({"schedule": {"name": "step"}}, "plan.schedule: every is missing"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"validation": 0.95}, "plan.validation must be .* at most 0.9, got 0.95"),
        ({"validation": 0, "early_stopping": {}}, "plan.validation is 0"),
        ({"early_stopping": {"metric": "loss"}}, "plan.early_stopping.metric"),
        ({"early_stopping": {"patients": 1}}, "did you mean 'patience'"),
        ({"loss": "mze"}, "plan.loss: 'mze' is not known; did you mean 'mse'"),
        ({"seed": -1}, "plan.seed"),
        ({"seed": 2**63}, "plan.seed"),
        ({"inputs": {"a": "x", "b": "x"}}, "one graph input twice"),
        ({"clip_norm": -1}, "plan.clip_norm"),
    ],
)
def test_a_field_at_fault_is_named_with_what_was_given(raw: Any, reason: str) -> None:
    with pytest.raises(InvalidError, match=reason):
        parse_plan(raw)


OPTIMIZERS = st.sampled_from(
    ["sgd", "adam", {"name": "adamw", "beta1": 0.8}, {"name": "sgd", "momentum": 0.5}]
)
PLANS = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["gd", "sgd"]),
        "epochs": st.integers(1, 100_000),
        "optimizer": OPTIMIZERS,
        "learning_rate": st.floats(1e-9, 1e6),
        "schedule": st.sampled_from([{"name": "cosine", "floor": 0.1}, "constant"]),
        "seed": st.integers(0, 2**63 - 1),
        "early_stopping": st.sampled_from([None, {"patience": 2}]),
        "inputs": st.dictionaries(st.text(max_size=3), st.just("x"), max_size=1),
        "checkpoint_every_steps": st.none() | st.integers(1, 9),
    },
)


@given(PLANS)
def test_a_rendered_plan_is_the_same_plan(raw: dict[str, Any]) -> None:
    plan = parse_plan(raw)
    assert parse_plan(json.loads(json.dumps(render_plan(plan)))) == plan


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(list(render_plan(parse_plan({})))), JSON))
def test_whatever_is_given_it_is_a_plan_or_a_clear_refusal(raw: dict[str, Any]) -> None:
    try:
        plan = parse_plan(raw)
    except InvalidError as error:
        message = error.message
    else:
        assert parse_plan(render_plan(plan)) == plan
        return
    assert message.startswith("plan")
