"""Misfits: what a body holds that does not fit its struct, told in our words: where, what it must
be, what was given.

The validator (msgspec) speaks of types, and of a choice tells neither its values nor the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import ValidationError, inspect

from aiaas_async.names import clip

_WORDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "bytes": "bytes",
    "null": "null",
}
_COMPARED: Final = {">=": "of at least", "<=": "of at most", ">": "above", "<": "below"}
_EXPECTED: Final = re.compile(r"Expected `([^`]+)`(.*?)(?:, got (.+))?", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_ANY: Final = "..."  # how the validator names an entry of a mapping

Steps = tuple[str | int, ...]


def misfit(error: ValidationError, given: Any, kind: Any, place: str = "") -> str:
    """What `error`, of converting `given` to `kind`, means; `place` is where `given` stands."""
    reason, _, at = str(error).partition(" - at `")
    path = at.rpartition("$")[2].rstrip("`")
    steps: Steps = tuple(
        name or (_ANY if index == _ANY else int(index)) for name, index in _STEP.findall(path)
    )
    told, got = _told(reason)
    if at.startswith("key"):
        return f"{_joined(place, steps)}: a key {told}".removeprefix(": ")
    steps, value = next(_values(given, steps, got), (steps, None))
    where, expected = _joined(place, steps), _kind_at(inspect.type_info(kind), steps)
    if isinstance(expected, inspect.LiteralType):
        told = f"must be one of {', '.join(map(str, expected.values))}"
    if field := re.fullmatch(r"Object contains unknown field `(.+)`", reason):
        known = ", ".join(each.encode_name for each in getattr(expected, "fields", ()))
        return f"{where} has no field {clip(field[1])}; fields: {known}".lstrip()
    if field := re.fullmatch(r"Object missing required field `(.+)`", reason):
        return f"{where}: {field[1]} is missing".removeprefix(": ")
    return f"{where} {told}, got {clip(value)}".lstrip()


def _told(reason: str) -> tuple[str, str | None]:
    """What a value must be, and the validator's name of the type that was given instead."""
    found = _EXPECTED.fullmatch(reason)
    if found is None:
        return f"does not fit ({reason})", None
    types = [each.strip() for each in found[1].split("|")]
    words = [_WORDS.get(each, each) for each in types if each != "null"] or ["null"]
    bound = re.sub(r"^ (>=|<=|>|<) ", lambda each: f" {_COMPARED[each[1]]} ", found[2])
    got = re.fullmatch(r"`(\w+)`", found[3] or "")
    return f"must be {' or '.join(words)}{bound}", got[1] if got else None


def _values(given: Any, steps: Steps, got: str | None, taken: Steps = ()) -> Iterator[Any]:
    """The steps, with names for what the validator leaves open, and the value they lead to."""
    if not steps:
        if got in (None, _type_of(given)):
            yield taken, given
        return
    first, *rest = steps
    entries: Sequence[Any] = [first]
    if first == _ANY and isinstance(given, Mapping):
        entries = list(given)
    for entry in entries:
        try:
            inner = given[entry]
        except (LookupError, TypeError):
            continue
        yield from _values(inner, tuple(rest), got, (*taken, entry))


def _type_of(value: Any) -> str:
    if isinstance(value, Mapping):
        return "object"
    if isinstance(value, list | tuple):
        return "array"
    return "null" if value is None else type(value).__name__


def _kind_at(kind: inspect.Type, steps: Steps) -> inspect.Type | None:
    """The type that stands at `steps` of `kind`, of several the object; else None."""
    if isinstance(kind, inspect.Metadata):
        return _kind_at(kind.type, steps)
    if isinstance(kind, inspect.UnionType):
        inner = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
        found = [at for each in inner if (at := _kind_at(each, steps)) is not None]
        objects = [at for at in found if isinstance(at, inspect.StructType)]
        return next((some[0] for some in (found, objects) if len(some) == 1), None)
    if not steps:
        return kind
    for field in getattr(kind, "fields", ()):
        if field.encode_name == steps[0]:
            return _kind_at(field.type, steps[1:])
    if isinstance(kind, inspect.DictType):
        return _kind_at(kind.value_type, steps[1:])
    item = getattr(kind, "item_type", None)
    return None if item is None else _kind_at(item, steps[1:])


def _joined(place: str, steps: Steps) -> str:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return place + path if place else path.removeprefix(".")
