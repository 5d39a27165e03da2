"""A query: what a caller asks of a version, read from a request's body.

Every field is optional; what is asked must hold. `version` is a version, "latest", or a PEP 440
specifier; `resources` is a budget the version must fit; a metric is a bound (">=0.9", or a number
for "at least"); `inputs` and `outputs` are names, or {name, dtype, shape}.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from aiaas_async.errors import InvalidError
from aiaas_async.messages import TensorSpec, check_specs
from aiaas_async.misfit import misfit
from aiaas_async.names import check_name, clip
from aiaas_async.registry.versions import TRANSITIONS, State, is_specifier, parse_specifier

_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_BOUND: Final = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*([^\s=<>!]{1,40})\s*")


class Bound(msgspec.Struct, frozen=True):
    """What a metric must be."""

    compare: Literal[">=", "<=", "==", "!=", ">", "<"]
    value: float

    def holds(self, value: float) -> bool:
        return _COMPARE[self.compare](value, self.value)

    @property
    def less_is_better(self) -> bool:
        return self.compare in ("<", "<=")

    def __str__(self) -> str:
        return f"{self.compare}{self.value:g}"


class QueryBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query as it is written."""

    name: str | None = None
    version: str | None = None
    alias: str | None = None
    inputs: tuple[str | TensorSpec, ...] = ()
    outputs: tuple[str | TensorSpec, ...] = ()
    resources: dict[str, float] = {}
    tags: tuple[str, ...] = ()
    metrics: dict[str, float | str] = {}
    runtime: str | None = None
    state: State | None = None
    limit: int = 20


class Query(msgspec.Struct, frozen=True):
    """A query whose every value makes sense."""

    name: str | None = None
    version: str | None = None
    alias: str | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    resources: dict[str, float] = {}
    tags: tuple[str, ...] = ()
    metrics: dict[str, Bound] = {}
    runtime: str | None = None
    state: State | None = None
    limit: int = 20

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Query:
        """Raises `InvalidError` naming the field at fault."""
        _check_fields(body)
        _check_state(body.get("state"))
        try:
            raw = msgspec.convert(body, QueryBody, strict=True)
        except msgspec.ValidationError as error:
            raise InvalidError(f"query: {misfit(error, body, QueryBody)}") from error
        if raw.name is not None:
            check_name(raw.name, "model name")
        if raw.version is not None and is_specifier(raw.version):
            parse_specifier(raw.version)
        if not 1 <= raw.limit <= MAX_LIMIT:
            raise InvalidError(f"query: limit must be 1 to {MAX_LIMIT}, got {raw.limit}")
        for resource, amount in raw.resources.items():
            if not amount >= 0:
                raise InvalidError(f"query: resources: {clip(resource)} must be >= 0, got {amount}")
        fields = {f: getattr(raw, f) for f in raw.__struct_fields__}
        fields["inputs"] = _specs("inputs", raw.inputs)
        fields["outputs"] = _specs("outputs", raw.outputs)
        fields["metrics"] = {m: _bound(m, given) for m, given in raw.metrics.items()}
        return cls(**fields)


MAX_LIMIT: Final = 1000


def _check_fields(body: Mapping[str, Any]) -> None:
    if not isinstance(body, Mapping):
        raise InvalidError(f"a query must be an object, got {clip(body)}")
    known = Query.__struct_fields__
    for field in body:
        if field not in known:
            near = difflib.get_close_matches(str(field)[:80], known, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"fields: {', '.join(known)}"
            raise InvalidError(f"a query has no field {clip(field)}; {hint}")


def _check_state(given: object) -> None:
    if isinstance(given, str) and given not in TRANSITIONS:
        *most, last = TRANSITIONS
        raise InvalidError(f"query: state must be {', '.join(most)} or {last}, got {clip(given)}")


def _specs(side: str, given: tuple[str | TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    specs = tuple(TensorSpec(s) if isinstance(s, str) else s for s in given)
    if specs:
        check_specs(f"query: {side}", specs)
    return specs


def _bound(metric: str, given: float | str) -> Bound:
    found = _BOUND.fullmatch(given) if isinstance(given, str) else None
    compare, text = found.groups() if found else (">=", given)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise InvalidError(
            f"query: metrics: {clip(metric)} must be a bound like '>=0.9' or a number, "
            f"got {clip(given)}"
        )
    return Bound(compare, value)  # type: ignore[arg-type]
