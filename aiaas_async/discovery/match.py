"""Matching: the versions that meet a query, best first; or why the nearest ones do not."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from aiaas_async.discovery.conditions import Failure, checks_of, failures, meets
from aiaas_async.discovery.query import Query
from aiaas_async.discovery.score import scores
from aiaas_async.errors import NoMatchError
from aiaas_async.names import clip
from aiaas_async.registry.catalog import NONE_YET, Catalog, ModelRecord, VersionRecord
from aiaas_async.registry.near import near, say_near
from aiaas_async.registry.versions import OrderKey, preference

MAX_NEAR_MISSES: Final = 10


class Match(NamedTuple):
    """A version that meets the query; the score is explained in `score.py`."""

    record: VersionRecord
    score: float


@dataclass(frozen=True, slots=True)
class Matches:
    """The best `limit` versions, best first, of `total`."""

    ranked: list[Match]
    total: int


class _Miss(NamedTuple):
    record: VersionRecord
    failed: list[Failure]


def match(catalog: Catalog, query: Query) -> Matches:
    """Raises `NoMatchError`, whose `near_misses` say which condition each near version failed."""
    checks = checks_of(query)
    considered = list(_considered(catalog, query.name))
    found = [
        (model, record)
        for model in considered
        for record in model.versions.values()
        if meets(checks, query, model, record)
    ]
    if not found:
        raise _no_match(catalog, query, _misses(considered, query))
    ranked = [Match(r, s) for (_, r), s in zip(found, scores(query, found), strict=True)]
    best = heapq.nsmallest(query.limit, ranked, key=lambda m: (-m.score, m.record.ref))
    return Matches(best, len(found))


def candidates(catalog: Catalog, query: Query) -> int:
    """How many versions `match` looks at, at most."""
    named = None if query.name is None else catalog.find(query.name)
    models = catalog.models() if named is None else (named,)
    return sum(len(model.versions) for model in models)


def by_inputs(catalog: Catalog, names: Collection[str]) -> list[VersionRecord]:
    """The versions a call with just these inputs can mean: of each model the latest, if it takes
    exactly `names`; those that can serve hide those that cannot. Raises `NoMatchError`."""
    found = catalog.taking(frozenset(names))
    if not found:
        raise _nobody_takes(catalog, frozenset(names))
    standing = max(record.standing for record in found)
    return [record for record in found if record.standing == standing]


def _considered(catalog: Catalog, name: str | None) -> Iterable[ModelRecord]:
    """The models worth a look: all, the one named, or those named like one that does not exist."""
    if name is None:
        return catalog.models()
    known = catalog.find(name)
    names = [name] if known else near(name, catalog.names(), MAX_NEAR_MISSES)
    return [catalog.model(n) for n in names]


def _misses(considered: Iterable[ModelRecord], query: Query) -> list[_Miss]:
    """The nearest of the versions considered, none of which meets the query."""
    checks = checks_of(query)
    missed = (
        _Miss(record, failures(checks, query, model, record))
        for model in considered
        for record in model.versions.values()
    )
    return heapq.nlargest(MAX_NEAR_MISSES, missed, key=_nearness)


def _no_match(catalog: Catalog, query: Query, misses: list[_Miss]) -> NoMatchError:
    details = {"near_misses": [_rendered(miss) for miss in misses]}
    if query.name is not None and catalog.find(query.name) is None:
        hint = say_near(query.name, catalog.names(), NONE_YET)
        return NoMatchError(f"no model is called {clip(query.name)}; {hint}", details)
    if not misses:
        return NoMatchError(f"no model fits: {NONE_YET}", details)
    nearest = misses[0]
    why = "; ".join(map(str, nearest.failed[:3]))
    return NoMatchError(f"no version matches; the nearest is {nearest.record.ref} ({why})", details)


def _nearness(miss: _Miss) -> tuple[int, int, tuple[bool, OrderKey], str]:
    """The fewer conditions failed the nearer, then whoever can serve, then the newest."""
    ref = miss.record.ref
    return -len(miss.failed), miss.record.standing, preference(ref.version), ref.name


def _rendered(miss: _Miss) -> dict[str, Any]:
    return {
        "name": miss.record.ref.name,
        "version": miss.record.ref.version,
        "failed": msgspec.to_builtins(miss.failed),
    }


def _nobody_takes(catalog: Catalog, names: frozenset[str]) -> NoMatchError:
    asked = clip(sorted(map(str, names)))
    nearest = heapq.nsmallest(
        MAX_NEAR_MISSES,
        catalog.index.items(),
        key=lambda row: (len(row[0] ^ names), sorted(row[0])),
    )
    misses = [{"inputs": sorted(inputs), "models": sorted(m)[:10]} for inputs, m in nearest]
    if not misses:
        return NoMatchError(f"no model takes the inputs {asked}; none is registered yet")
    said = ", ".join(f"{miss['inputs']} ({', '.join(miss['models'][:3])})" for miss in misses[:5])
    return NoMatchError(
        f"no model takes exactly the inputs {asked}; known are {said}; to call a model by its "
        "name send {'model': …, 'inputs': {…}}",
        {"near_misses": misses},
    )
