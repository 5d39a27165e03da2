"""Names are refused unless they are safe in paths, URLs, logs and labels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import InvalidNameError
from aiaas_async.names import ModelRef, check_name, check_version


@pytest.mark.parametrize("name", ["a", "image_classifier", "0.5b-chat", "a" * 64])
def test_a_legal_name_is_returned_unchanged(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "a/b", "a..b", "..", "a\n", "é", "a" * 65, "a b", "a\x00"]
)
def test_an_illegal_name_is_refused_and_the_pattern_told(name: str) -> None:
    with pytest.raises(InvalidNameError, match="not allowed") as caught:
        check_name(name)
    assert "pattern" in caught.value.details


@given(st.text(max_size=80))
def test_whatever_passes_is_safe_as_a_path_part(name: str) -> None:
    try:
        check_name(name)
    except InvalidNameError:
        return
    assert name.isascii()
    assert "/" not in name
    assert "\\" not in name
    assert name not in {".", ".."}


@pytest.mark.parametrize("version", ["1.0", "2.1.0-rc1", "2024-spring", "v1"])
def test_a_version_may_be_any_short_printable_text(version: str) -> None:
    assert check_version(version) == version


@pytest.mark.parametrize("version", ["", " 1", "2024 spring", "1/2", "1\n", "x" * 65, "latest"])
def test_a_version_that_is_empty_spaced_unprintable_or_computed_is_refused(version: str) -> None:
    with pytest.raises(InvalidNameError):
        check_version(version)


def test_a_reference_reads_as_name_colon_version() -> None:
    assert str(ModelRef("digits", "1.0")) == "digits:1.0"
