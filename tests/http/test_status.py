"""Each error of the tree has its status, its headers and its form."""

from __future__ import annotations

import pytest

from aiaas_async import errors
from aiaas_async.http.status import headers_of, problem, status_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.MalformedError("x"), 400),
        (errors.NoMatchError("x"), 404),
        (errors.NotReadyError("x"), 409),
        (errors.AmbiguousError("x"), 409),
        (errors.PreconditionError("x"), 412),
        (errors.TooLargeError("x"), 413),
        (errors.UnsupportedMediaError("x"), 415),
        (errors.InputError("x"), 422),
        (errors.InvalidNameError("x"), 422),
        (errors.QuotaError("x"), 429),
        (errors.InternalError("x"), 500),
        (errors.OverloadedError("x"), 503),
        (errors.WorkerDiedError("x"), 503),
        (errors.QuarantinedError("x"), 503),
        (errors.DeadlineError("x"), 504),
        (errors.StorageError("x"), 507),
    ],
)
def test_every_error_has_the_status_of_the_contract(error: errors.AiaasError, status: int) -> None:
    assert status_of(error) == status


def test_no_error_of_the_tree_is_without_a_status() -> None:
    for error in errors.BY_CODE.values():
        assert 400 <= status_of(error("x")) < 600


def test_a_problem_names_its_code_and_carries_the_details() -> None:
    body = problem(errors.AmbiguousError("two models", {"candidates": ["a", "b"]}), 409)
    assert body["type"] == "urn:aiaas:error:ambiguous"
    assert body["details"] == {"candidates": ["a", "b"]}
    assert body["detail"] == "two models"


def test_retry_after_is_in_whole_seconds_rounded_up() -> None:
    assert headers_of(errors.OverloadedError("x", retry_after=0.2), 503) == {"Retry-After": "1"}
    assert headers_of(errors.OverloadedError("x", retry_after=2.1), 503) == {"Retry-After": "3"}


def test_a_503_always_says_when_to_come_back() -> None:
    assert headers_of(errors.WorkerDiedError("x"), 503) == {"Retry-After": "1"}
    assert headers_of(errors.InputError("x"), 422) == {}


def test_a_wrong_method_is_told_the_right_ones() -> None:
    error = errors.MethodError("x", {"allowed": ["GET", "PUT"]})
    assert headers_of(error, 405) == {"Allow": "GET, PUT"}
