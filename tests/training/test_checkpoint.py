"""A checkpoint is the state, bit for bit, or it is not taken up."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiaas_async.errors import DivergedError
from aiaas_async.training.checkpoint import Checkpoints, newest_step
from aiaas_async.training.state import State
from tests.training.data import assert_same, begun, finished, training

PLAN: dict[str, Any] = {"epochs": 3, "batch_size": 16, "optimizer": "adam", "early_stopping": {}}
RUN = training(**PLAN)
STATES = [begun(RUN), *RUN.run(begun(RUN))]


def latest(folder: Path, run_key: str = "run") -> State | None:
    return Checkpoints(folder, run_key).latest()


@pytest.mark.parametrize("state", STATES)
def test_every_state_comes_back_as_it_was(tmp_path: Path, state: State) -> None:
    Checkpoints(tmp_path, "run").save(state)
    found = latest(tmp_path)
    assert found is not None
    assert_same(found, state)
    assert found.tally == state.tally
    assert_same(finished(RUN, found), STATES[-1])


def test_the_newest_of_several_is_taken_and_two_files_are_kept(tmp_path: Path) -> None:
    for state in STATES[:4]:  # a writer of its own each, as after a kill
        checkpoints = Checkpoints(tmp_path, "run")
        checkpoints.latest()
        checkpoints.save(state)
    found = latest(tmp_path)
    assert found is not None
    assert_same(found, STATES[3])
    assert len(list(tmp_path.iterdir())) == 2


def test_how_far_a_run_got_is_told_without_reading_it(tmp_path: Path) -> None:
    assert newest_step(tmp_path) == newest_step(tmp_path / "nowhere") == 0
    checkpoints = Checkpoints(tmp_path, "run")
    for state in STATES[1:4]:
        checkpoints.save(state)
        assert newest_step(tmp_path) == state.step
    for path in tmp_path.iterdir():
        path.write_bytes(b"no checkpoint")
    assert newest_step(tmp_path) == 0


def test_another_run_s_checkpoint_is_not_taken_up(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    Checkpoints(tmp_path, "run").save(STATES[2])
    assert latest(tmp_path, "other") is None


@given(st.data())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_newer_checkpoint_leaves_the_older_one(
    tmp_path: Path, data: st.DataObject
) -> None:
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    checkpoints = Checkpoints(tmp_path, "run")
    checkpoints.save(STATES[1])
    checkpoints.save(STATES[3])
    path = tmp_path / "checkpoint-1.safetensors"
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[at // 8] ^= 1 << at % 8
    path.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)) | st.just(len(raw)))]))
    found = latest(tmp_path)
    assert found is not None
    if found.step == STATES[3].step:  # a bit in the padding, or in the step that is for show
        assert_same(found, STATES[3])
    else:
        assert_same(found, STATES[1])


def test_a_state_that_is_not_finite_does_not_replace_a_good_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "run")
    checkpoints.save(STATES[2])
    bad = dict(STATES[3].params) | {"logits.bias": np.full(3, np.inf, np.float32)}
    with pytest.raises(DivergedError, match=r"params/logits\.bias is no longer finite"):
        checkpoints.save(replace(STATES[3], params=bad))
    found = latest(tmp_path)
    assert found is not None
    assert_same(found, STATES[2])
