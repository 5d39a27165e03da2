"""Prometheus' text format, version 0.0.4: families of samples as lines.

Our own fifty lines, since `prometheus_client` puts `_total` after the name of every counter, which
the reference server's have not, and takes 40 ms to import.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from aiaas_async.service.histogram import Histogram

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge", "histogram", "summary"]


class Family(NamedTuple):
    """What one name means, and which labels its samples have."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """Values at quantiles, and over how many values what sum."""

    quantiles: Sequence[tuple[float, float]]
    count: int
    total: float


Value = float | Histogram | Summary


@dataclass(frozen=True, slots=True)
class Sample:
    """`labels` in the order of the family's."""

    labels: tuple[str, ...]
    value: Value


def lines(family: Family, samples: Sequence[Sample]) -> Iterator[str]:
    """The lines of one family; without samples, what it means all the same."""
    yield f"# HELP {family.name} {_escaped(family.help)}"
    yield f"# TYPE {family.name} {family.kind}"
    for sample in samples:
        pairs = [
            f'{name}="{_escaped(text, quoted=True)}"'
            for name, text in zip(family.labels, sample.labels, strict=True)
        ]
        if isinstance(sample.value, Histogram):
            yield from _histogram(family.name, pairs, sample.value)
        elif isinstance(sample.value, Summary):
            yield from _summary(family.name, pairs, sample.value)
        else:
            yield _line(family.name, pairs, sample.value)


def _histogram(name: str, pairs: list[str], value: Histogram) -> Iterator[str]:
    counts, running = tuple(value.counts), 0  # a copy: it may be added to meanwhile
    for bound, count in zip((*value.bounds, float("inf")), counts, strict=True):
        running += count
        yield _line(f"{name}_bucket", [*pairs, f'le="{_number(bound)}"'], running)
    yield _line(f"{name}_sum", pairs, value.total)
    yield _line(f"{name}_count", pairs, running)


def _summary(name: str, pairs: list[str], value: Summary) -> Iterator[str]:
    for point, found in value.quantiles:
        yield _line(name, [*pairs, f'quantile="{_number(point)}"'], found)
    yield _line(f"{name}_sum", pairs, value.total)
    yield _line(f"{name}_count", pairs, value.count)


def _line(name: str, pairs: list[str], value: float) -> str:
    labels = f"{{{','.join(pairs)}}}" if pairs else ""
    return f"{name}{labels} {_number(value)}"


def _number(value: float) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return _UNBOUNDED.get(repr(value)) or repr(value)


_UNBOUNDED: Final = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


def _escaped(text: str, *, quoted: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quoted else text
