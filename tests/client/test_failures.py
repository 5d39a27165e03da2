"""Answers that are errors, whoever gave them."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from aiaas_async import errors
from aiaas_async.client.failures import (
    UnexpectedAnswerError,
    decode,
    error_of,
    job_error,
    parse_retry_after,
)
from aiaas_async.errors import AiaasError
from aiaas_async.http.status import headers_of, problem, status_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("cls", [errors.BY_CODE[code] for code in sorted(errors.BY_CODE)])
@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_every_error_arrives_as_it_was_raised(cls: type[AiaasError], encoding: str) -> None:
    sent = cls("what was wrong", {"with": ["which", "value"]}, 7.0)
    status = status_of(sent)
    body = problem(sent, status)
    encoded = (msgspec.json if encoding == "json" else msgspec.msgpack).encode(body)
    headers = {"Content-Type": f"application/{encoding}", **headers_of(sent, status)}
    got = error_of(status, headers, encoded)
    assert type(got) is errors.BY_CODE[cls.code]
    assert (got.message, got.details, got.retry_after) == (sent.message, sent.details, 7.0)


def test_a_code_of_a_later_release_is_still_an_error_of_ours() -> None:
    body = b'{"code": "too_hot", "detail": "cool it", "details": [1]}'
    got = error_of(418, {"Content-Type": "application/problem+json"}, body)
    assert type(got) is AiaasError
    assert got.message == "cool it"
    assert got.details == {}


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (404, errors.NotFoundError),
        (413, errors.TooLargeError),
        (429, errors.QuotaError),
        (502, UnexpectedAnswerError),
        (503, errors.OverloadedError),
        (504, errors.DeadlineError),
    ],
)
def test_a_proxys_page_is_typed_by_its_status(status: int, cls: type[AiaasError]) -> None:
    headers = {"Content-Type": "text/html", "Retry-After": "3"}
    got = error_of(status, headers, b"<html>Bad Gateway \xff</html>")
    assert type(got) is cls
    assert "Bad Gateway" in got.message
    assert str(status) in got.message
    assert got.retry_after == 3.0


def test_a_long_foreign_page_is_cut_short() -> None:
    assert len(error_of(500, {}, b"x" * 100_000).message) < 250


@pytest.mark.parametrize(
    ("raw", "wait"),
    [
        (None, None),
        ("2", 2.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Fri, 02 Jan 2026 03:04:35 GMT", 30.0),
        ("Fri, 02 Jan 2026 03:00:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(raw: str | None, wait: float | None) -> None:
    assert parse_retry_after(raw, NOW) == wait


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html; charset=utf-8", b"<html>"),
        ("application/json", b"{"),
        ("application/json", b'"\xff"'),
        ("application/msgpack", b"\x92\x01"),
        ("", b"{}"),
    ],
)
def test_an_answer_that_is_none_of_ours_says_so(content_type: str, body: bytes) -> None:
    with pytest.raises(UnexpectedAnswerError):
        decode(content_type, body)


def test_an_answer_may_have_more_structure_than_a_request() -> None:
    labels = [f"label {n}" for n in range(100_000)]
    assert decode("application/msgpack", msgspec.msgpack.encode(labels)) == labels


def test_a_job_that_ended_badly_says_why_in_its_own_error() -> None:
    facts = {"code": "diverged", "message": "loss is nan", "details": {"step": 3}}
    error = job_error({"job": "a", "state": "failed", "error": facts})
    assert isinstance(error, errors.DivergedError)
    assert error.details == {"step": 3}
    assert isinstance(job_error({"job": "a", "state": "cancelled"}), errors.CancelledJobError)
    assert job_error({"state": "succeeded"}) is None
