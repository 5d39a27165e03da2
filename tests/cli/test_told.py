"""What the command line says of a job that has ended."""

from __future__ import annotations

from aiaas_async.cli.training import _batch_result, _verified


def test_a_run_that_was_verified_says_by_how_much_it_differs() -> None:
    found = {"steps": 100, "largest_difference": 3.1e-7, "tolerance": 1e-5, "passed": True}
    assert _verified(found) == (
        "; the first 100 steps as on one node: weights differ by 3.1e-07 at most (1e-05 allowed)"
    )
    assert " NOT as on one node" in _verified({**found, "passed": False})
    assert _verified(None) == ""


def test_one_task_is_a_task() -> None:
    result = {"done": 3, "output_dataset": "out", "seconds": 0.01, "items_per_s": 300.0}
    result |= {"tasks": 1, "stolen": 0, "retried": 0}
    assert _batch_result(result) == (
        "3 items into out in 0.0 s, 300 a second; 1 task, 0 stolen, 0 retried"
    )
