"""Tables and progress: whole names, no padding, and a line now and then in a pipe."""

from __future__ import annotations

import pytest

from aiaas_async.cli import output
from aiaas_async.cli.output import print_table
from aiaas_async.cli.progress import step_bar

COLUMNS = ("job", "version", "why")
NAME = "a-model-with-a-rather-long-name:2026.11.29-nightly"
ROWS = [("0123456789abcdef", NAME, "ok"), ("f" * 16, "m:1", "it failed " * 30)]


def test_a_row_in_a_pipe_is_a_line_and_is_not_padded(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, ROWS, "nothing")
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == list(COLUMNS)
    assert first == f"0123456789abcdef  {NAME}  ok"
    assert second.endswith("it failed")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_narrow_terminal_wraps_the_last_column_and_cuts_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(output, "_terminal_width", lambda: width)
    print_table(COLUMNS, ROWS, "nothing")
    shown = capsys.readouterr().out
    assert "0123456789abcdef" in shown
    assert NAME in shown
    assert shown.count("failed") == 30
    assert len(shown.splitlines()) > 4


def test_brackets_in_a_cell_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("data set", "columns"), [("d", "image [red]")], "nothing")
    assert "image [red]" in capsys.readouterr().out


def test_a_table_without_rows_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, [], "nothing yet")
    assert capsys.readouterr().out == "nothing yet\n"


def test_progress_in_a_pipe_is_a_line_in_five_seconds_at_most(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    with step_bar("job 1", lambda: now) as report:
        for step in range(120):
            now = step / 10
            report(step, 120, "steps, epoch 1 of 2")
    told = capsys.readouterr().err.splitlines()
    assert told == [f"job 1: {n}/120 steps, epoch 1 of 2" for n in (50, 100)]


def test_progress_on_a_terminal_says_nothing_before_it_knows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes that for a terminal
    monkeypatch.setenv("TERM", "xterm")
    with step_bar("job 1"):
        pass
    shown = capsys.readouterr().err
    assert "job 1" in shown
    assert "None" not in shown
