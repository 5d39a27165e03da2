"""Versions are ordered by PEP 440, and `latest` is the highest one that can serve."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import ConflictError, InvalidError
from aiaas_async.names import ModelRef
from aiaas_async.registry.versions import (
    STANDING,
    TRANSITIONS,
    State,
    asks_prereleases,
    best,
    check_move,
    is_specifier,
    matches_specifier,
    order_key,
    preference,
)

REF = ModelRef("digits", "1.0")


def test_versions_come_in_the_order_of_pep_440_and_others_before_by_their_text() -> None:
    ordered = ["canary", "v-next", "0.9", "1.0.dev1", "1.0a1", "1.0rc1", "1.0", "1.0.post1", "1.10"]
    assert sorted(set(ordered), key=order_key) == ordered


def test_equal_versions_written_differently_are_ordered_by_text() -> None:
    assert sorted(["1.0.0", "1", "1.0"], key=order_key) == ["1", "1.0", "1.0.0"]


def test_any_final_release_is_preferred_to_any_pre_release() -> None:
    assert max(["0.1", "9.0rc1", "8.0.dev3", "zebra"], key=preference) == "0.1"
    assert max(["9.0rc1", "8.0.dev3", "zebra"], key=preference) == "9.0rc1"


@given(st.lists(st.text(min_size=1, max_size=8), unique=True))
def test_the_order_is_total_for_any_text(versions: list[str]) -> None:
    assert sorted(sorted(versions, key=order_key, reverse=True), key=order_key) == sorted(
        versions, key=order_key
    )


@pytest.mark.parametrize(
    ("version", "specifier", "fits"),
    [
        ("1.5", ">=1.0,<2", True),
        ("2.0", ">=1.0,<2", False),
        ("1.5rc1", ">=1.0,<2", True),
        ("1.4.9", "~=1.4", True),
        ("1.0.0", "==1.0", True),
        ("canary", ">=0", False),
        ("canary", "===canary", True),
        ("canary", "===other", False),
        ("1.0", "!=1.0", False),
    ],
)
def test_specifiers_are_pep_440s(version: str, specifier: str, fits: bool) -> None:
    assert matches_specifier(version, specifier) is fits


@pytest.mark.parametrize("text", [">=abc", "=>1", "~=1", ">" * 300, "<" + "1," * 200])
def test_a_text_that_is_no_specifier_is_refused_with_an_example(text: str) -> None:
    assert is_specifier(text)
    with pytest.raises(InvalidError, match=r"'>=1.0,<2'"):
        matches_specifier("1.0", text)


def test_only_a_specifier_that_names_a_pre_release_asks_for_them() -> None:
    assert asks_prereleases(">=2.0rc1")
    assert not asks_prereleases(">=2.0")


def test_the_best_is_ready_then_final_then_highest() -> None:
    candidates: list[tuple[State, str, int]] = [
        ("registered", "3.0", 1),
        ("ready", "1.0", 2),
        ("ready", "2.0rc1", 3),
        ("corrupt", "4.0", 4),
    ]
    assert best(candidates) == 2
    assert best(candidates, prereleases=True) == 3
    assert best([candidates[0], candidates[3]]) == 1
    assert best(iter(())) is None


def test_every_state_has_its_moves_and_its_standing() -> None:
    assert TRANSITIONS.keys() == STANDING.keys()
    for state, moves in TRANSITIONS.items():
        for to in TRANSITIONS:
            if to in moves:
                check_move(REF, state, to)
            else:
                with pytest.raises(ConflictError, match=f"{state} and cannot become {to}"):
                    check_move(REF, state, to)
