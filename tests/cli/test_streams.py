"""A standard stream that is closed or full costs one line, not a traceback or a core dump."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aiaas_async.cli.streams import CANNOT_WRITE

_MODULE = f"{sys.executable} -m aiaas_async"


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "<&- >&-"])
def test_output_that_cannot_be_written_is_one_line_and_a_status(redirection: str) -> None:
    ended = subprocess.run(
        ["/bin/sh", "-c", f"{_MODULE} --help {redirection}"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ended.stderr.startswith("error: standard output cannot be written: ")
    assert len(ended.stderr.splitlines()) == 1
    assert ended.returncode == CANNOT_WRITE


def test_sockets_do_not_take_the_numbers_of_closed_streams() -> None:
    ended = subprocess.run(
        ["/bin/sh", "-c", f"{_MODULE} models --url http://127.0.0.1:9 <&- >&-"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ended.stderr.startswith("error: no server answers")
    assert ended.returncode == 1
