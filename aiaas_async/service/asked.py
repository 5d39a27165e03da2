"""What a caller asks for, as a struct."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from aiaas_async.errors import InvalidError
from aiaas_async.misfit import misfit
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
        raise InvalidError(f"{what}: {misfit(error, body, kind)}") from error
