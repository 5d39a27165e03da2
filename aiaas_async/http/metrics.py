"""/metrics: what nodes, mailboxes, jobs and the registry count, in Prometheus' text format.

Collected when asked for, from the parts' own statistics: nothing is counted twice, and a call
pays nothing for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from aiaas_async.service.platform import Platform

_COUNTERS = {
    "batches": "Batches computed.",
    "rows": "Items computed.",
    "failures": "Jobs that failed in the worker.",
    "deaths": "Workers that died during a job.",
    "loads": "Versions loaded.",
    "evictions": "Versions unloaded to make room.",
    "compute_s": "Seconds the worker computed.",
}


class _Collector:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def collect(self) -> Iterator[Metric]:
        yield from self._nodes()
        yield from self._mailboxes()
        yield from self._jobs()
        yield from self._registry()

    def _nodes(self) -> Iterator[Metric]:
        nodes = list(self._platform.cluster.nodes.values())
        for name, text in _COUNTERS.items():
            title = "compute_seconds" if name == "compute_s" else name
            family = CounterMetricFamily(f"aiaas_node_{title}", text, labels=["node"])
            for node in nodes:
                family.add_metric([node.id], getattr(node.statistics, name))
            yield family
        load = GaugeMetricFamily(
            "aiaas_node_load", "Requests waiting or under way.", labels=["node"]
        )
        used = GaugeMetricFamily(
            "aiaas_node_memory_bytes", "Bytes of loaded weights.", labels=["node"]
        )
        for node in nodes:
            load.add_metric([node.id], node.load)
            used.add_metric([node.id], node.status()["memory"]["used"])
        yield load
        yield used

    def _mailboxes(self) -> Iterator[Metric]:
        facts = {
            node.id: node.status()["mailbox"] for node in self._platform.cluster.nodes.values()
        }
        for name in ("accepted", "refused", "dropped"):
            family = CounterMetricFamily(
                f"aiaas_mailbox_{name}", f"Requests {name} by the mailbox.", labels=["node"]
            )
            for node, mailbox in facts.items():
                family.add_metric([node], mailbox[name])
            yield family
        waiting = GaugeMetricFamily("aiaas_mailbox_items", "Requests waiting.", labels=["node"])
        for node, mailbox in facts.items():
            waiting.add_metric([node], mailbox["items"])
        yield waiting

    def _jobs(self) -> Iterator[Metric]:
        counts = Counter((job.record.kind, job.record.state) for job in self._platform.jobs.all())
        family = GaugeMetricFamily("aiaas_jobs", "Remembered jobs.", labels=["kind", "state"])
        for (kind, state), count in counts.items():
            family.add_metric([kind, state], count)
        yield family

    def _registry(self) -> Iterator[Metric]:
        states = Counter(record.state for record in self._platform.models.catalog.versions())
        family = GaugeMetricFamily("aiaas_versions", "Versions by state.", labels=["state"])
        for state, count in states.items():
            family.add_metric([state], count)
        yield family
        for name, value in asdict(self._platform.registry.statistics()).items():
            yield GaugeMetricFamily(f"aiaas_registry_{name}", f"Registry: {name}.", value)


def exposition(platform: Platform) -> tuple[bytes, str]:
    """The body of /metrics and its Content-Type."""
    registry = CollectorRegistry()
    registry.register(_Collector(platform))
    return generate_latest(registry), CONTENT_TYPE_LATEST
