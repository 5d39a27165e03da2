"""Errors as a user and as a program meet them: one line, or one object."""

from __future__ import annotations

import json

import pytest

from aiaas_async.cli.options import REFUSED, TRY_AGAIN, one_line_errors
from aiaas_async.errors import (
    AiaasError,
    InternalError,
    MemoryBudgetError,
    NotFoundError,
    OverloadedError,
    UnplaceableError,
)


def ended(error: AiaasError, request_id: str | None, *, as_json: bool = False) -> int:
    error.request_id = request_id
    with pytest.raises(SystemExit) as raised, one_line_errors(as_json):
        raise error
    assert isinstance(raised.value.code, int)
    return raised.value.code


def test_a_fault_of_the_server_is_told_with_the_id_that_its_log_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ended(InternalError("a defect"), "5f-1") == REFUSED
    assert ended(OverloadedError("full"), "5f-2") == TRY_AGAIN
    assert ended(NotFoundError("no such model"), "5f-3") == REFUSED
    assert ended(InternalError("a defect"), None) == REFUSED
    assert capsys.readouterr().err.splitlines() == [
        "error: a defect (request 5f-1)",
        "error: full (request 5f-2)",
        "error: no such model",
        "error: a defect",
    ]


def test_what_no_waiting_helps_is_not_to_be_tried_again() -> None:
    assert ended(MemoryBudgetError("others hold the memory"), None) == TRY_AGAIN
    assert ended(UnplaceableError("larger than all nodes"), None) == REFUSED


def test_an_error_for_programs_is_one_object_with_code_and_id(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = OverloadedError("full", {"waiting": 7}, retry_after=2.0)
    assert ended(error, "5f-1", as_json=True) == TRY_AGAIN
    assert json.loads(capsys.readouterr().err) == {
        "code": "overloaded",
        "title": "Overloaded",
        "detail": "full",
        "request_id": "5f-1",
        "details": {"waiting": 7},
        "retry_after": 2.0,
    }
