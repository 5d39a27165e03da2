"""/metrics: what every part of the platform counts, collected when it is asked for.

Nothing is counted for it alone but what no part would: a call pays for its own statistics only.
What grows with the number of versions, and what the kernel is asked, is done beside the event loop.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Final

from aiaas_async import __version__
from aiaas_async.http.budget import BodyBudget
from aiaas_async.http.exposition import Summary, Value, labels, meaning, sample
from aiaas_async.http.families import FAMILIES
from aiaas_async.http.tally import Tally
from aiaas_async.names import ModelRef
from aiaas_async.service.caching import CacheStatistics
from aiaas_async.service.host import CpuMeter, descendants, memory, process_figures
from aiaas_async.service.platform import Platform
from aiaas_async.service.statistics import VersionStatistics

_QUANTILES: Final = (0.5, 0.9, 0.95, 0.99, 0.999)  # the reference server's
_DURATIONS: Final = {
    "request": "success_ns",
    "queue": "queue_ns",
    "compute_input": "compute_input_ns",
    "compute_infer": "compute_infer_ns",
    "compute_output": "compute_output_ns",
}


@dataclass(slots=True)
class Readings:
    """Samples, as text, of the families in the table; no others can be taken."""

    samples: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in FAMILIES})

    def take(self, name: str, value: Value, *texts: str) -> None:
        """`texts` in the order of the family's labels."""
        self.take_of(labels(FAMILIES[name], texts), name, value)

    def take_of(self, pairs: str, name: str, value: Value) -> None:
        """With labels as they will stand there, for those who take many samples of the same."""
        self.samples[name].append(sample(name, pairs, value))

    def text(self) -> str:
        """In the order of the table."""
        found = ("\n".join([meaning(FAMILIES[name]), *of]) for name, of in self.samples.items())
        return "\n".join(found) + "\n"


async def exposition(platform: Platform, tally: Tally, budget: BodyBudget) -> bytes:
    """The body of /metrics."""
    readings = Readings()
    _read_nodes(readings, platform)
    _read_platform(readings, platform)
    _read_jobs(readings, platform)
    _read_http(readings, tally, budget)
    waiting: Counter[ModelRef] = sum(
        (node.waiting() for node in platform.cluster.nodes.values()), platform.deployments.waiting()
    )
    versions = list(platform.models.statistics.items())
    workers = {node.worker_pid: node.id for node in platform.cluster.nodes.values()}

    def finish() -> bytes:
        for ref, statistics in versions:
            _read_version(readings, ref, statistics, waiting[ref])
        _read_host(readings, platform.cpu)
        _read_processes(readings, workers)
        return readings.text().encode()

    return await asyncio.to_thread(finish)


def _read_version(
    readings: Readings, ref: ModelRef, statistics: VersionStatistics, waiting: int
) -> None:
    take = partial(readings.take_of, labels(FAMILIES["nv_inference_count"], ref))
    quantiles = statistics.quantiles(_QUANTILES)
    take("nv_inference_request_success", statistics.success.count)
    for reason, failures in statistics.reasons.items():
        readings.take("nv_inference_request_failure", failures, *ref, reason)
    take("nv_inference_count", statistics.inferences)
    take("nv_inference_exec_count", round(statistics.executions))
    for part, name in _DURATIONS.items():
        ns = getattr(statistics, name)
        spent = statistics.success.ns if part == "request" else ns
        take(f"nv_inference_{part}_duration_us", round(spent / 1000))
        points = list(zip(_QUANTILES, quantiles[part], strict=True))
        summary = Summary(points, statistics.successes, ns / 1000)
        take(f"nv_inference_{part}_summary_us", summary)
    take("nv_inference_pending_request_count", waiting)
    take("nv_inference_first_response_histogram_ms", statistics.latencies)
    take("nv_cache_num_hits_per_model", statistics.cache_hit.count)
    take("nv_cache_num_misses_per_model", statistics.cache_miss.count)
    take("nv_cache_hit_duration_per_model", statistics.cache_hit.ns // 1000)
    take("nv_cache_miss_duration_per_model", statistics.cache_miss.ns // 1000)


def _read_host(readings: Readings, cpu: CpuMeter) -> None:
    if (share := cpu.share()) is not None:
        readings.take("nv_cpu_utilization", share)
    if (sizes := memory()) is not None:
        readings.take("nv_cpu_memory_total_bytes", sizes.total)
        readings.take("nv_cpu_memory_used_bytes", sizes.used)


def _read_processes(readings: Readings, workers: dict[int | None, str]) -> None:
    """The server, the nodes' workers by name, the others added up: they come and go."""
    resident, proportional = Counter[str](), Counter[str]()
    for pid in (os.getpid(), *descendants(os.getpid())):
        if (figures := process_figures(pid)) is None:
            continue
        name = "server" if pid == os.getpid() else workers.get(pid, "others")
        resident[name] += figures.resident
        proportional[name] += figures.proportional
        if name != "others":
            readings.take("aiaas_process_cpu_seconds_total", figures.cpu_s, name)
    for name in resident:
        readings.take("aiaas_process_resident_bytes", resident[name], name)
        readings.take("aiaas_process_proportional_bytes", proportional[name], name)


def _read_nodes(readings: Readings, platform: Platform) -> None:
    readings.take("aiaas_ring_nodes", len(platform.cluster.ring))
    for node in platform.cluster.nodes.values():
        status, counts = node.status(), node.statistics
        for name in ("batches", "rows", "failures", "loads", "evictions"):
            readings.take(f"aiaas_node_{name}_total", getattr(counts, name), node.id)
        readings.take("aiaas_node_compute_seconds_total", counts.compute_s, node.id)
        readings.take("aiaas_node_load", node.load, node.id)
        readings.take("aiaas_node_memory_bytes", status["memory"]["used"], node.id)
        readings.take("aiaas_node_memory_budget_bytes", status["memory"]["budget"], node.id)
        for name in ("accepted", "refused", "dropped"):
            readings.take(f"aiaas_mailbox_{name}_total", status["mailbox"][name], node.id)
        readings.take("aiaas_mailbox_items", status["mailbox"]["items"], node.id)
        readings.take("aiaas_mailbox_bytes", status["mailbox"]["size"], node.id)
        readings.take("aiaas_worker_alive", int(status["state"] == "serving"), node.id)
        readings.take("aiaas_worker_started_total", status["workers_started"], node.id)
        readings.take("aiaas_worker_deaths_total", counts.deaths, node.id)


def _read_platform(readings: Readings, platform: Platform) -> None:
    readings.take("aiaas_info", 1, __version__)
    readings.take("aiaas_start_time_seconds", platform.started_at)
    standings = platform.cluster.standings()
    states = Counter(standings.of(each).state for each in platform.models.catalog.versions())
    for state, count in states.items():
        readings.take("aiaas_versions", count, state)
    for what, nbytes in platform.models.stored().items():
        readings.take("aiaas_stored_bytes", nbytes, what)
    placed = Counter(deployment.state for deployment in platform.deployments.all())
    for place, count in placed.items():
        readings.take("aiaas_deployments", count, place)
    for deployment in platform.deployments.all():
        if deployment.cache is not None:
            _read_cache(readings, deployment.ref, deployment.cache.statistics())
    readings.take("aiaas_sequences", len(platform.calls.sequences))
    for outcome, count in asdict(platform.calls.shadows.statistics).items():
        readings.take("aiaas_shadow_calls_total", count, outcome)
    for name, value in asdict(platform.registry.statistics()).items():
        suffix = "" if name == "waiting" else "_total"
        readings.take(f"aiaas_registry_{name}{suffix}", value)
    readings.take("aiaas_loop_lag_seconds", platform.loop.lag)
    readings.take("aiaas_loop_stalls_total", platform.loop.stalls)


def _read_cache(readings: Readings, ref: ModelRef, cache: CacheStatistics) -> None:
    readings.take("aiaas_cache_entries", cache.entries, *ref)
    readings.take("aiaas_cache_bytes", cache.bytes, *ref)
    readings.take("aiaas_cache_budget_bytes", cache.budget, *ref)
    readings.take("aiaas_cache_evictions_total", cache.evictions, *ref)


def _read_jobs(readings: Readings, platform: Platform) -> None:
    jobs = platform.jobs.all()
    counts = Counter((job.record.kind, job.record.state) for job in jobs)
    for (kind, state), count in counts.items():
        readings.take("aiaas_jobs", count, kind, state)
    for job in jobs:
        if job.record.state != "running":
            continue
        facts = job.events.latest
        if "step" in facts:
            readings.take("aiaas_job_steps", facts["step"], job.record.id)
        if "samples_per_second" in facts:
            speed = facts["samples_per_second"]
            readings.take("aiaas_job_samples_per_second", speed, job.record.id)


def _read_http(readings: Readings, tally: Tally, budget: BodyBudget) -> None:
    for route in tally.routes:
        named = (route.method, route.pattern)
        for status, count in route.statuses.items():
            readings.take("aiaas_http_requests_total", count, *named, str(status))
        if route.statuses:
            readings.take("aiaas_http_request_duration_seconds", route.durations, *named)
    readings.take("aiaas_http_requests_in_flight", tally.under_way)
    readings.take("aiaas_http_connections", tally.connections())
    readings.take("aiaas_http_body_bytes_in_flight", budget.used)
    readings.take("aiaas_http_body_bytes_limit", budget.limit)
