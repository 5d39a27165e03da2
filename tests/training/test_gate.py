"""A gate says yes, or why not."""

from __future__ import annotations

import math

import pytest

from aiaas_async.errors import InvalidError
from aiaas_async.training.gate import parse_gate


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("accuracy >= 0.5", True),
        ("accuracy>0.5", False),
        (" accuracy <= 0.5 ", True),
        ("accuracy < 0.5", False),
        ("accuracy > -1", True),
        ("loss < 1", False),
        ("val_loss < 1", False),
    ],
)
def test_a_gate_compares_what_was_measured(text: str, passes: bool) -> None:
    gate = parse_gate(text, 0.1)
    assert (gate.refusal({"accuracy": 0.5, "loss": math.nan}) is None) is passes


def test_a_refusal_names_the_value_and_the_gate() -> None:
    gate = parse_gate("val_accuracy >= 0.97", 0.1)
    assert gate.refusal({"val_accuracy": 0.9}) == (
        "val_accuracy is 0.9; the gate asks for val_accuracy >= 0.97"
    )
    assert gate.refusal({}) == "val_accuracy was not measured; the gate asks for " + str(gate)


@pytest.mark.parametrize("text", ["", "accuracy", "accuracy => 1", "accuracy >= x", "a;b > 1"])
def test_what_is_no_gate_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="must be a metric"):
        parse_gate(text, 0.1)


def test_held_out_metrics_need_held_out_items() -> None:
    with pytest.raises(InvalidError, match=r"plan\.validation is 0"):
        parse_gate("val_accuracy > 0.5", 0.0)
