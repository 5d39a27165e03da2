"""The error tree: every class has a code of its own, and codes lead back to classes."""

import inspect

import pytest

from aiaas_async import errors

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.AiaasError) and cls is not errors.AiaasError
]


def test_no_two_errors_share_a_code() -> None:
    assert len({cls.code for cls in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_code_leads_back_to_its_class_with_message_and_details(
    cls: type[errors.AiaasError],
) -> None:
    error = errors.from_code(cls.code, "what was wrong", {"given": 3}, retry_after=1.5)
    assert type(error) is cls
    assert (error.message, error.details, error.retry_after) == (
        "what was wrong",
        {"given": 3},
        1.5,
    )


@pytest.mark.parametrize("cls", CLASSES)
def test_every_code_stands_in_the_tree_of_the_module_docstring(
    cls: type[errors.AiaasError],
) -> None:
    assert errors.__doc__ is not None
    assert cls.__name__ in errors.__doc__


def test_a_code_of_another_release_becomes_the_root() -> None:
    assert type(errors.from_code("from_the_future", "x")) is errors.AiaasError
