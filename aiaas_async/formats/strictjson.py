"""JSON objects from files nobody vouches for: bounded in size and depth, without ambiguity."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from aiaas_async.errors import ArtifactError
from aiaas_async.names import clip


def parse_object(raw: bytes, what: str, max_depth: int) -> dict[str, Any]:
    """The object in `raw`, which the caller has bounded in size.

    Raises `ArtifactError` naming `what` for anything else: other values, a key given twice,
    NaN or infinity, bytes that are not UTF-8, nesting over `max_depth`.
    """
    try:
        parsed = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except RecursionError:
        raise ArtifactError(f"{what}: nested over {max_depth} deep") from None
    except ValueError as error:
        raise ArtifactError(f"{what} is not sound JSON: {_reason(error)}") from error
    if not isinstance(parsed, dict):
        raise ArtifactError(f"{what} must be a JSON object, got {clip(parsed)}")
    if _deeper_than(parsed, max_depth):
        raise ArtifactError(f"{what}: nested over {max_depth} deep")
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {clip(twice)} is given twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not allowed")


def _reason(error: ValueError) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else clip(str(error), 160)


def _deeper_than(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        level = [child for each in level for child in _children(each)]
        if not level:
            return False
    return True


def _children(value: Any) -> list[Any]:
    values = value.values() if isinstance(value, dict) else value
    return [child for child in values if isinstance(child, dict | list)]
