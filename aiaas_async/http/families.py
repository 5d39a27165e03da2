"""Every metric this server has, in one table: its name, what it is, what it means.

The names from `nv_` are the reference server's own, so that its dashboards and load generators
work. Times of theirs are in microseconds; ours are in seconds.
"""

from __future__ import annotations

from typing import Final

from aiaas_async.http.exposition import Family, Kind

_VERSION: Final = ("model", "version")
_PARTS: Final = {
    "request": "from its inputs as values to its outputs",
    "queue": "waiting for a worker",
    "compute_input": "reading inputs, and the way to the worker and back",
    "compute_infer": "in the model",
    "compute_output": "giving each call its part of a batch's outputs",
}


def _versions() -> list[Family]:
    def of(name: str, kind: Kind, text: str, *more: str) -> Family:
        return Family(name, kind, text, (*_VERSION, *more))

    return [
        of("nv_inference_request_success", "counter", "Calls answered."),
        of(
            "nv_inference_request_failure",
            "counter",
            "Calls that failed: REJECTED by a full queue or a deadline, CANCELED by the caller, "
            "BACKEND in the worker, OTHER.",
            "reason",
        ),
        of("nv_inference_count", "counter", "Items computed."),
        of("nv_inference_exec_count", "counter", "Batches computed, each shared by its calls."),
        *(
            of(f"nv_inference_{part}_duration_us", "counter", f"Microseconds of calls {text}.")
            for part, text in _PARTS.items()
        ),
        of("nv_inference_pending_request_count", "gauge", "Calls that wait for a worker."),
        of(
            "nv_inference_first_response_histogram_ms",
            "histogram",
            "Milliseconds from a call's inputs to its outputs.",
        ),
        *(
            of(
                f"nv_inference_{part}_summary_us",
                "summary",
                f"Microseconds {text}; quantiles of the last 1024 calls answered.",
            )
            for part, text in _PARTS.items()
        ),
        of("nv_cache_num_hits_per_model", "counter", "Calls answered by the response cache."),
        of("nv_cache_num_misses_per_model", "counter", "Calls the response cache did not know."),
        of("nv_cache_hit_duration_per_model", "counter", "Microseconds of look-ups that hit."),
        of("nv_cache_miss_duration_per_model", "counter", "Microseconds of look-ups that missed."),
    ]


_HOST: Final = [
    Family("nv_cpu_utilization", "gauge", "Busy share of all cores since the last look, 0 to 1."),
    Family("nv_cpu_memory_total_bytes", "gauge", "Memory of the machine."),
    Family("nv_cpu_memory_used_bytes", "gauge", "Memory of the machine that is not available."),
]

_NODES: Final = [
    Family("aiaas_ring_nodes", "gauge", "Nodes on the ring."),
    *(
        Family(f"aiaas_node_{name}_total", "counter", text, ("node",))
        for name, text in {
            "batches": "Batches computed.",
            "rows": "Items computed.",
            "failures": "Jobs that failed in the worker.",
            "loads": "Versions loaded.",
            "evictions": "Versions unloaded to make room.",
            "compute_seconds": "Seconds the worker computed.",
        }.items()
    ),
    Family("aiaas_node_load", "gauge", "Requests waiting or under way.", ("node",)),
    Family("aiaas_node_memory_bytes", "gauge", "Bytes of loaded weights.", ("node",)),
    Family("aiaas_node_memory_budget_bytes", "gauge", "Bytes weights may take.", ("node",)),
    Family("aiaas_mailbox_accepted_total", "counter", "Requests taken in.", ("node",)),
    Family("aiaas_mailbox_refused_total", "counter", "Requests refused: full.", ("node",)),
    Family("aiaas_mailbox_dropped_total", "counter", "Requests nobody waited for.", ("node",)),
    Family("aiaas_mailbox_items", "gauge", "Requests waiting.", ("node",)),
    Family("aiaas_mailbox_bytes", "gauge", "Bytes of requests waiting.", ("node",)),
    Family("aiaas_worker_alive", "gauge", "1 while the node has a worker process.", ("node",)),
    Family("aiaas_worker_started_total", "counter", "Worker processes started.", ("node",)),
    Family("aiaas_worker_deaths_total", "counter", "Workers that died during a job.", ("node",)),
]

_PROCESSES: Final = [
    Family(
        "aiaas_process_resident_bytes",
        "gauge",
        "Memory of the server, of each node's worker, and of all others (jobs, readers) together.",
        ("process",),
    ),
    Family(
        "aiaas_process_proportional_bytes",
        "gauge",
        "The same with what processes share counted once.",
        ("process",),
    ),
    Family(
        "aiaas_process_cpu_seconds_total",
        "counter",
        "Processor time of the server, and of each node's worker since it was started.",
        ("process",),
    ),
]

_PLATFORM: Final = [
    Family("aiaas_info", "gauge", "1; the version of this server is its label.", ("version",)),
    Family("aiaas_start_time_seconds", "gauge", "When the server started, in Unix time."),
    Family("aiaas_jobs", "gauge", "Remembered jobs.", ("kind", "state")),
    Family("aiaas_job_steps", "gauge", "Steps of running training jobs.", ("job",)),
    Family("aiaas_job_samples_per_second", "gauge", "Speed of running training jobs.", ("job",)),
    Family("aiaas_versions", "gauge", "Registered versions.", ("state",)),
    Family(
        "aiaas_stored_bytes",
        "gauge",
        "On disk: `artifacts`, the files of versions; `layouts`, their weights once more.",
        ("what",),
    ),
    Family("aiaas_deployments", "gauge", "Deployments.", ("state",)),
    Family("aiaas_cache_entries", "gauge", "Answers remembered for a deployment.", _VERSION),
    Family("aiaas_cache_bytes", "gauge", "Bytes of answers remembered.", _VERSION),
    Family("aiaas_cache_budget_bytes", "gauge", "Bytes that they may take.", _VERSION),
    Family("aiaas_cache_evictions_total", "counter", "Answers that made room.", _VERSION),
    Family("aiaas_sequences", "gauge", "Sequences under way."),
    Family("aiaas_shadow_calls_total", "counter", "Copies for shadow versions.", ("outcome",)),
    Family("aiaas_registry_waiting", "gauge", "Changes that wait for the registry's disk."),
    Family("aiaas_registry_transactions_total", "counter", "Transactions of the registry."),
    Family("aiaas_registry_mutations_total", "counter", "Changes to the registry."),
    Family("aiaas_registry_failed_transactions_total", "counter", "Transactions that failed."),
    Family("aiaas_loop_lag_seconds", "histogram", "How late the event loop took up a turn."),
    Family("aiaas_loop_stalls_total", "counter", "Times the event loop stalled; logs tell where."),
]

_ROUTE: Final = ("method", "route")
_HTTP: Final = [
    Family(
        "aiaas_http_requests_total",
        "counter",
        "Requests answered; 499: the caller left before.",
        (*_ROUTE, "status"),
    ),
    Family("aiaas_http_request_duration_seconds", "histogram", "Time of requests.", _ROUTE),
    Family("aiaas_http_requests_in_flight", "gauge", "Requests under way."),
    Family("aiaas_http_connections", "gauge", "Open connections."),
    Family("aiaas_http_body_bytes_in_flight", "gauge", "Bytes of requests, and of unread replies."),
    Family("aiaas_http_body_bytes_limit", "gauge", "Bytes of request bodies there may be at once."),
]

FAMILIES: Final = {
    family.name: family
    for family in [*_versions(), *_HOST, *_NODES, *_PROCESSES, *_PLATFORM, *_HTTP]
}
