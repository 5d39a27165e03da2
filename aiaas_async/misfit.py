"""Misfits: what a body holds that does not fit its struct, told in our words: where, what it must
be, what was given.

The validator (msgspec) speaks of types, and of a choice tells neither its values nor the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
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
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.+)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.+)`", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_ANY: Final = "..."  # how the validator names an entry of a mapping

Steps = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class _Complaint:
    """What the validator says of a value: what it `must` be, the type it is instead, the field
    that it lacks or has too much."""

    must: str
    got: str | None = None
    missing: str | None = None
    unknown: str | None = None
    choice: bool = False

    def about(self, value: Any) -> bool:
        """Whether it can be about `value`."""
        if self.missing is not None:
            return isinstance(value, Mapping) and self.missing not in value
        if self.unknown is not None:
            return isinstance(value, Mapping) and self.unknown in value
        return self.got in (None, _type_of(value))


def misfit(error: ValidationError, given: Any, kind: Any, place: str = "") -> str:
    """What `error`, of converting `given` to `kind`, means; `place` is where `given` stands."""
    reason, _, at = str(error).partition(" - at `")
    steps: Steps = tuple(
        name or (_ANY if index == _ANY else int(index))
        for name, index in _STEP.findall(at.rpartition("$")[2].rstrip("`"))
    )
    said = _complaint(reason)
    if at.startswith("key"):
        return f"{_joined(place, steps)}: a key {said.must}".removeprefix(": ")
    found = list(islice(_values(given, steps, said), 2))
    if not found or (len(found) > 1 and said.got is said.missing is said.unknown is None):
        within = steps[: steps.index(_ANY)] if _ANY in steps else steps
        return f"{_joined(place, within)}: a value {said.must}".removeprefix(": ")
    steps, value = found[0]
    return _rendered(said, _joined(place, steps), value, _kinds_at(inspect.type_info(kind), steps))


def _rendered(said: _Complaint, where: str, value: Any, kinds: list[inspect.Type]) -> str:
    if said.missing is not None:
        return f"{where}: {said.missing} is missing".removeprefix(": ")
    if said.unknown is not None:
        objects = [each for each in kinds if isinstance(each, inspect.StructType)]
        known = ", ".join(field.encode_name for each in objects[:1] for field in each.fields)
        return f"{where} has no field {clip(said.unknown)}; fields: {known}".lstrip()
    must = said.must
    choices = [each for each in kinds if isinstance(each, inspect.LiteralType)]
    if choices and (said.choice or len(kinds) == 1):
        must = f"must be one of {', '.join(map(str, choices[0].values))}"
    return f"{where} {must}, got {clip(value)}".lstrip()


def _complaint(reason: str) -> _Complaint:
    if field := _UNKNOWN.fullmatch(reason):
        return _Complaint("has a field too many", unknown=field[1])
    if field := _MISSING.fullmatch(reason):
        return _Complaint("has a field too few", missing=field[1])
    found = _EXPECTED.fullmatch(reason)
    if found is None:
        return _Complaint(f"does not fit ({reason})", choice=reason.startswith("Invalid enum"))
    types = [each.strip() for each in found[1].split("|")]
    words = [_WORDS.get(each, each) for each in types if each != "null"] or ["null"]
    bound = re.sub(r"^ (>=|<=|>|<) ", lambda each: f" {_COMPARED[each[1]]} ", found[2])
    got = re.fullmatch(r"`(\w+)`", found[3] or "")
    return _Complaint(f"must be {' or '.join(words)}{bound}", got=got[1] if got else None)


def _values(given: Any, steps: Steps, said: _Complaint, taken: Steps = ()) -> Iterator[Any]:
    """The steps, with names for what the validator leaves open, and the value they lead to."""
    if not steps:
        if said.about(given):
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
        yield from _values(inner, tuple(rest), said, (*taken, entry))


def _type_of(value: Any) -> str:
    if isinstance(value, Mapping):
        return "object"
    if isinstance(value, list | tuple):
        return "array"
    return "null" if value is None else type(value).__name__


def _kinds_at(kind: inspect.Type, steps: Steps) -> list[inspect.Type]:
    """The types that may stand at `steps` of `kind`, beside null."""
    if isinstance(kind, inspect.Metadata):
        return _kinds_at(kind.type, steps)
    if isinstance(kind, inspect.UnionType):
        inner = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
        return [at for each in inner for at in _kinds_at(each, steps)]
    if not steps:
        return [kind]
    for field in getattr(kind, "fields", ()):
        if field.encode_name == steps[0]:
            return _kinds_at(field.type, steps[1:])
    if isinstance(kind, inspect.DictType):
        return _kinds_at(kind.value_type, steps[1:])
    item = getattr(kind, "item_type", None)
    return [] if item is None else _kinds_at(item, steps[1:])


def _joined(place: str, steps: Steps) -> str:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return place + path if place else path.removeprefix(".")
