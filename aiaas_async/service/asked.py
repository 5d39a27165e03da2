"""What a caller asks for, as a struct."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from aiaas_async.errors import InvalidError
from aiaas_async.names import clip

S = TypeVar("S", bound=msgspec.Struct)


def read_asked(body: Mapping[str, Any], kind: type[S], what: str) -> S:
    """`body` as a `kind`, which users know as a `what`. Raises `InvalidError` naming the field at
    fault."""
    for field in body:
        if field not in kind.__struct_fields__:
            known = ", ".join(kind.__struct_fields__)
            raise InvalidError(f"a {what} has no field {clip(field)}; fields: {known}")
    try:
        return msgspec.convert(dict(body), kind, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidError(f"{what}: {reason_of(error, body, kind)}") from error


def reason_of(error: msgspec.ValidationError, body: Mapping[str, Any], kind: type) -> str:
    """The validator's message in our words: which field, what it may be, what was given.

    Its own for a choice tells what was given and where, but not between what.
    """
    reason, _, path = str(error).partition(" - at `$.")
    place = path.rstrip("`")
    given: Any = body
    found: Any = msgspec.inspect.type_info(kind)
    for name in place.split("."):
        given = given.get(name) if isinstance(given, Mapping) else None
        fields = getattr(found, "fields", ())
        found = next((field.type for field in fields if field.encode_name == name), None)
    if not place or given is None:
        return str(error)
    if isinstance(found, msgspec.inspect.LiteralType):
        reason = f"must be one of {', '.join(map(str, found.values))}"
    return f"{place.rpartition('.')[2]}: {reason}, got {clip(given)}"
