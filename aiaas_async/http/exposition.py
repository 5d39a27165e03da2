"""Prometheus' text format, version 0.0.4: families of samples as lines.

Our own fifty lines, since `prometheus_client` puts `_total` after the name of every counter, which
the reference server's have not, and takes 40 ms to import.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
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


def meaning(family: Family) -> str:
    """The two lines that go before a family's samples, and stand where it has none."""
    return f"# HELP {family.name} {_escaped(family.help)}\n# TYPE {family.name} {family.kind}"


def labels(family: Family, texts: Sequence[str]) -> str:
    """What stands between the braces; `texts` in the order of the family's labels."""
    pairs = zip(family.labels, texts, strict=True)
    return ",".join([f'{name}="{_escaped(text, quoted=True)}"' for name, text in pairs])


def sample(name: str, pairs: str, value: Value) -> str:
    """The line, or lines, of one sample of the family `name`; `pairs` are its labels."""
    if isinstance(value, Histogram):
        return "\n".join(_histogram(name, pairs, value))
    if isinstance(value, Summary):
        return "\n".join(_summary(name, pairs, value))
    return f"{name}{_braced(pairs)} {_number(value)}"


def _braced(pairs: str) -> str:
    return f"{{{pairs}}}" if pairs else ""


def _histogram(name: str, pairs: str, value: Histogram) -> list[str]:
    counts = tuple(value.counts)  # a copy: it may be added to meanwhile
    before = f"{name}_bucket{{{pairs}{',' if pairs else ''}le="
    bounds = map(_number, (*value.bounds, math.inf))
    found = [
        f'{before}"{bound}"}} {count}'
        for bound, count in zip(bounds, itertools.accumulate(counts), strict=True)
    ]
    return found + _sum_and_count(name, pairs, value.total, sum(counts))


def _summary(name: str, pairs: str, value: Summary) -> list[str]:
    before = f"{name}{{{pairs}{',' if pairs else ''}quantile="
    found = [f'{before}"{point}"}} {_number(at)}' for point, at in value.quantiles]
    return found + _sum_and_count(name, pairs, value.total, value.count)


def _sum_and_count(name: str, pairs: str, total: float, count: int) -> list[str]:
    labels = _braced(pairs)
    return [f"{name}_sum{labels} {_number(total)}", f"{name}_count{labels} {count}"]


def _number(value: float) -> str:
    text = repr(value)
    return _UNBOUNDED.get(text) or text.removesuffix(".0")


_UNBOUNDED: Final = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


def _escaped(text: str, *, quoted: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quoted else text
