"""Conditions: for each field of a query, whether a version meets it, and if not, why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from aiaas_async.discovery.query import Query
from aiaas_async.messages import TensorSpec
from aiaas_async.names import LATEST
from aiaas_async.registry.catalog import ModelRecord, VersionRecord
from aiaas_async.registry.signature import fits
from aiaas_async.registry.versions import is_specifier, matches_specifier


class Failure(msgspec.Struct, frozen=True):
    """A condition that a version does not meet."""

    field: str
    asked: Any
    has: Any

    def __str__(self) -> str:
        has = "none" if self.has in (None, []) else self.has
        return f"{self.field}: asked {self.asked}, has {has}"


_METRICS_TOLD: Final = 8
Failures = Iterator[Failure]
Check = Callable[[Query, ModelRecord, VersionRecord], Failures]


def checks_of(query: Query) -> list[Check]:
    """The checks that `query` needs: of the fields it asks about, and always of the state."""
    return [check for field, check in _CHECKS.items() if field == "state" or getattr(query, field)]


def meets(checks: Sequence[Check], query: Query, model: ModelRecord, record: VersionRecord) -> bool:
    """Whether `record` meets every condition of `query` among `checks`."""
    return all(next(check(query, model, record), None) is None for check in checks)


def failures(
    checks: Sequence[Check], query: Query, model: ModelRecord, record: VersionRecord
) -> list[Failure]:
    """Every condition of `query`, among `checks`, that `record` does not meet."""
    return [failure for check in checks for failure in check(query, model, record)]


def _name(query: Query, model: ModelRecord, _: VersionRecord) -> Failures:
    if query.name not in (None, model.name):
        yield Failure("name", query.name, model.name)


def _version(query: Query, model: ModelRecord, record: VersionRecord) -> Failures:
    asked, has = query.version, record.ref.version
    if asked is None or has == asked:
        return
    if asked == LATEST:
        holds = record is model.latest
    else:
        holds = is_specifier(asked) and matches_specifier(has, asked)
    if not holds:
        yield Failure("version", asked, has)


def _alias(query: Query, model: ModelRecord, record: VersionRecord) -> Failures:
    if query.alias is None:
        return
    alias = model.aliases.get(query.alias)
    if alias is None or alias.version != record.ref.version:
        has = sorted(a for a, r in model.aliases.items() if r.version == record.ref.version)
        yield Failure("alias", query.alias, has)


def _state(query: Query, _: ModelRecord, record: VersionRecord) -> Failures:
    if query.state is None and record.state == "corrupt":
        yield Failure("state", "ready or registered", f"corrupt: {record.reason}")
    elif query.state not in (None, record.state):
        yield Failure("state", query.state, record.state)


def _runtime(query: Query, _: ModelRecord, record: VersionRecord) -> Failures:
    if query.runtime not in (None, record.metadata.runtime):
        yield Failure("runtime", query.runtime, record.metadata.runtime)


def _inputs(query: Query, _: ModelRecord, record: VersionRecord) -> Failures:
    return _side("inputs", query.inputs, record.metadata.inputs)


def _outputs(query: Query, _: ModelRecord, record: VersionRecord) -> Failures:
    return _side("outputs", query.outputs, record.metadata.outputs)


def _side(side: str, asked: Sequence[TensorSpec], held: Sequence[TensorSpec]) -> Failures:
    known = {spec.name: spec for spec in held}
    missing = [spec.name for spec in asked if spec.name not in known]
    if missing:
        yield Failure(side, [spec.name for spec in asked], list(known))
    for spec in asked:
        if (has := known.get(spec.name)) is not None:
            yield from _tensor(f"{side}.{spec.name}", spec, has)


def _tensor(field: str, asked: TensorSpec, has: TensorSpec) -> Failures:
    """What the version leaves open until its commit does not meet a condition on it."""
    if asked.dtype not in (None, has.dtype):
        yield Failure(f"{field}.dtype", asked.dtype, has.dtype)
    if asked.shape is not None and (has.shape is None or not fits(asked.shape, has.shape)):
        yield Failure(
            f"{field}.shape", list(asked.shape), None if has.shape is None else list(has.shape)
        )


def _resources(query: Query, _: ModelRecord, record: VersionRecord) -> Failures:
    for resource, budget in query.resources.items():
        needs = record.metadata.resources.get(resource, 0.0)
        if needs > budget:
            yield Failure(f"resources.{resource}", f"<={budget:g}", needs)


def _tags(query: Query, _: ModelRecord, record: VersionRecord) -> Failures:
    if not set(query.tags) <= set(record.metadata.tags):
        yield Failure("tags", list(query.tags), list(record.metadata.tags))


def _metrics(query: Query, _: ModelRecord, record: VersionRecord) -> Failures:
    for metric, bound in query.metrics.items():
        known = record.metadata.metrics
        value = known.get(metric)
        if value is None and known:  # a name may be mistyped
            others = ", ".join(sorted(known)[:_METRICS_TOLD])
            yield Failure(f"metrics.{metric}", str(bound), f"none but {others}")
        elif value is None or not bound.holds(value):
            yield Failure(f"metrics.{metric}", str(bound), value)


# In the order their failures are told.
_CHECKS: Final[Mapping[str, Check]] = {
    "name": _name,
    "version": _version,
    "alias": _alias,
    "state": _state,
    "runtime": _runtime,
    "inputs": _inputs,
    "outputs": _outputs,
    "resources": _resources,
    "tags": _tags,
    "metrics": _metrics,
}
