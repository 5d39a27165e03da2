"""Scores: how well a version that meets every condition suits, from 0 to 1.

    0.40  state      ready 1, registered or a candidate 0.5, corrupt 0
    0.20  signature  share of the version's inputs and outputs that the query named
    0.15  fit        share of the asked resource budgets that the version uses
    0.20  recency    its place among its model's versions: final releases 0.5 to 1, others to 0.25
    0.05  metrics    its place between the worst and the best match in the asked metrics

What a query does not ask about counts as met in full. The score depends on the catalogue and the
query alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aiaas_async.discovery.query import Bound, Query
from aiaas_async.registry.catalog import ModelRecord, VersionRecord
from aiaas_async.registry.versions import STANDING

_STATE, _SIGNATURE, _FIT, _RECENCY, _METRICS = 0.40, 0.20, 0.15, 0.20, 0.05
_HIGHEST: Final = max(STANDING.values())


def scores(query: Query, matches: Sequence[tuple[ModelRecord, VersionRecord]]) -> list[float]:
    """The score of each of `matches`, which all meet `query`."""
    records = [record for _, record in matches]
    ranges = {metric: _range(metric, records) for metric in query.metrics}
    weighted = (
        _STATE * record.standing / _HIGHEST
        + _SIGNATURE * _signature(query, record)
        + _FIT * _fit(query.resources, record.metadata.resources)
        + _RECENCY * _recency(model, record)
        + _METRICS * _metrics(query.metrics, ranges, record.metadata.metrics)
        for model, record in matches
    )
    return [round(score, 9) for score in weighted]  # sums of binary fractions may exceed 1


def _recency(model: ModelRecord, record: VersionRecord) -> float:
    final, place = model.places[record.ref.version]
    return 0.5 + 0.5 * place if final else 0.25 * place


def _signature(query: Query, record: VersionRecord) -> float:
    metadata = record.metadata
    sides = ((query.inputs, metadata.inputs), (query.outputs, metadata.outputs))
    return _mean([len(asked) / max(1, len(has)) for asked, has in sides if asked])


def _fit(budgets: Mapping[str, float], needs: Mapping[str, float]) -> float:
    return _mean([needs.get(r, 0.0) / budget if budget else 1.0 for r, budget in budgets.items()])


def _range(metric: str, records: Sequence[VersionRecord]) -> tuple[float, float]:
    values = [record.metadata.metrics[metric] for record in records]
    return min(values), max(values)


def _metrics(
    bounds: Mapping[str, Bound],
    ranges: Mapping[str, tuple[float, float]],
    has: Mapping[str, float],
) -> float:
    places = []
    for metric, bound in bounds.items():
        low, high = ranges[metric]
        place = (has[metric] - low) / (high - low) if high > low else 1.0
        places.append(1.0 - place if bound.less_is_better and high > low else place)
    return _mean(places)


def _mean(parts: Sequence[float]) -> float:
    return sum(parts) / len(parts) if parts else 1.0
