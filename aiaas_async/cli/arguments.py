"""What the words and flags of a command mean, the same for every command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from aiaas_async.errors import InvalidError, InvalidNameError
from aiaas_async.names import clip


def apart(name: str, *words: str | None) -> tuple[str | None, ...]:
    """The words NAME SECOND …, where the first two may be one: NAME:SECOND.

    A name has no colon, so there is no doubt which is meant.
    """
    if ":" not in name:
        return name, *words
    first, _, second = name.partition(":")
    if not first or not second:
        missing = "version" if first else "name"
        raise InvalidNameError(
            f"{clip(name)} has no {missing}: give NAME, NAME:VERSION or NAME:ALIAS"
        )
    if words and words[-1] is not None:
        raise click.UsageError(f"{name} names two things already; {words[-1]} is one too many")
    return first, second, *words[:-1]


def model_of(text: str) -> tuple[str, str | None]:
    """NAME, or NAME:VERSION, as one word."""
    name, *version = apart(text)
    return str(name), version[0] if version else None


def required(word: str | None, name: str) -> str:
    """A word that only `apart` can tell to be missing."""
    if word is None:
        raise click.UsageError(f"Missing argument '{name}'.")
    return word


def at_most_one(given: Mapping[str, object]) -> None:
    """Refuse flags (or words), by name with their values, that exclude each other."""
    named = _named(given)
    if len(named) > 1:
        raise click.UsageError(f"{named[0]} and {named[1]} exclude each other")


def needs(what: str, value: object, given: Mapping[str, object]) -> None:
    """Refuse flags, by name with their values, that mean nothing without `what`."""
    if not _named({what: value}) and (named := _named(given)):
        raise click.UsageError(f"{named[0]} needs {what}")


def _named(given: Mapping[str, object]) -> list[str]:
    return [name for name, value in given.items() if value is not None and value is not False]


def read_json(text: str, what: str) -> dict[str, Any]:
    """A JSON object from `text`, or from the file that "@path" names."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text()
        except OSError as error:
            raise InvalidError(f"{what}: {text[1:]} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise InvalidError(f"{what}: {text[1:]} is no text; JSON is expected") from None
    try:
        value = parsed(text)
    except ValueError as error:
        raise InvalidError(f"{what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidError(f"{what} must be a JSON object, got {clip(value)}")
    return value


def parsed(text: str | bytes) -> Any:
    """JSON. Raises `ValueError`, of which `UnicodeDecodeError` is one."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def amounts(pairs: tuple[str, ...], what: str) -> dict[str, float]:
    """Pairs NAME=NUMBER, given as `what`."""
    found = {}
    for pair in pairs:
        name, _, amount = pair.partition("=")
        try:
            found[name] = float(amount)
        except ValueError:
            raise InvalidError(f"{what} are given as name=number, got {clip(pair)}") from None
    return found
