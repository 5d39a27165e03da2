"""The text format, read back by the library that its readers use."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from aiaas_async.http.exposition import Family, Summary, Value, labels, meaning, sample
from aiaas_async.service.histogram import Histogram

SIZES = Family("sizes", "gauge", "How large.", ("name",))


def read(family: Family, value: Value, *texts: str) -> list[tuple[str, dict[str, str], float]]:
    text = f"{meaning(family)}\n{sample(family.name, labels(family, texts), value)}\n"
    (found,) = text_string_to_metric_families(text)
    assert (found.name, found.type) == (family.name, family.kind)
    assert found.documentation == family.help
    return [(sample.name, sample.labels, sample.value) for sample in found.samples]


@given(st.text(), st.floats() | st.integers(-(2**53), 2**53))
def test_every_label_and_number_is_read_back(text: str, value: float) -> None:
    ((name, labels, got),) = read(SIZES, value, text)
    assert (name, labels) == ("sizes", {"name": text})
    assert got == value or (math.isnan(got) and math.isnan(value))


def test_a_counter_keeps_its_name() -> None:
    items = Family("nv_inference_count", "counter", "Items.")
    assert meaning(items).splitlines() == [
        "# HELP nv_inference_count Items.",
        "# TYPE nv_inference_count counter",
    ]
    assert sample(items.name, labels(items, ()), 3) == "nv_inference_count 3"


def test_a_histogram_counts_what_is_at_most_each_bound() -> None:
    values = Histogram((1.0, 10.0))
    for value in (0.5, 1.0, 7.0, 100.0):
        values.add(value)
    assert read(Family("h", "histogram", "H."), values) == [
        ("h_bucket", {"le": "1"}, 2),
        ("h_bucket", {"le": "10"}, 3),
        ("h_bucket", {"le": "+Inf"}, 4),
        ("h_sum", {}, 108.5),
        ("h_count", {}, 4),
    ]


def test_a_summary_has_its_quantiles_its_sum_and_its_count() -> None:
    value = Summary([(0.5, 2.0), (0.999, math.inf)], 7, 21.5)
    assert read(Family("s", "summary", "S.", ("m",)), value, "a") == [
        ("s", {"m": "a", "quantile": "0.5"}, 2.0),
        ("s", {"m": "a", "quantile": "0.999"}, math.inf),
        ("s_sum", {"m": "a"}, 21.5),
        ("s_count", {"m": "a"}, 7),
    ]


def test_a_sample_has_all_the_labels_of_its_family() -> None:
    with pytest.raises(ValueError, match="shorter"):
        labels(SIZES, ())
