"""Where the server is."""

from __future__ import annotations

import pytest

from aiaas_async.client.address import path, resolve_timeout, resolve_url
from aiaas_async.errors import InvalidError, InvalidNameError


def test_the_address_is_given_or_from_the_environment_or_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AIAAS_URL", raising=False)
    assert resolve_url(None) == "http://127.0.0.1:8080"
    monkeypatch.setenv("AIAAS_URL", "https://models.example/base/")
    assert resolve_url(None) == "https://models.example/base"
    assert resolve_url("http://[::1]:9") == "http://[::1]:9"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8080",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://host:99999",
        "http://user:secret@host",
        "http://host?x=1",
        "/tmp",
    ],
)
def test_an_address_that_is_none_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(InvalidError, match="http://HOST:PORT"):
        resolve_url(url)


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(InvalidError) as caught:
        resolve_url("http://user:secret@host")
    assert "secret" not in str(caught.value)


def test_the_timeout_is_given_or_from_the_environment_or_half_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AIAAS_TIMEOUT", raising=False)
    assert resolve_timeout(None) == 30.0
    monkeypatch.setenv("AIAAS_TIMEOUT", "2.5")
    assert resolve_timeout(None) == 2.5
    assert resolve_timeout(4) == 4.0


@pytest.mark.parametrize("raw", ["soon", "0", "-1", "nan", "inf"])
def test_a_timeout_that_is_none_is_refused(raw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIAAS_TIMEOUT", raw)
    with pytest.raises(InvalidError, match="seconds above 0"):
        resolve_timeout(None)


def test_a_name_is_one_part_of_a_path_whatever_it_holds() -> None:
    assert path("models", "a/b", "versions", "1.0 ä?#%") == (
        "/models/a%2Fb/versions/1.0%20%C3%A4%3F%23%25"
    )


@pytest.mark.parametrize("part", ["", ".", ".."])
def test_a_part_that_would_lead_elsewhere_is_refused(part: str) -> None:
    with pytest.raises(InvalidNameError):
        path("models", "m", "versions", part)
