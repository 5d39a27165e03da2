"""/metrics: every promised name is there, and moves when what it counts happens."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aiaas_async.http.exposition import CONTENT_TYPE
from aiaas_async.http.families import FAMILIES
from aiaas_async.http.metrics import Readings
from aiaas_async.jobs.board import Running
from aiaas_async.jobs.record import JobRecord
from tests.http.conftest import Served
from tests.http.models import commit_classifier, commit_doubler, weights
from tests.http.raw import head, talk

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]

PARTS = ("request", "queue", "compute_input", "compute_infer", "compute_output")
PROMISED = {
    *(f"nv_inference_{name}" for name in ("request_success", "request_failure", "count")),
    *("nv_inference_exec_count", "nv_inference_pending_request_count"),
    *(f"nv_inference_{part}_duration_us" for part in PARTS),
    *(f"nv_inference_{part}_summary_us" for part in PARTS),
    "nv_inference_first_response_histogram_ms",
    *(f"nv_cache_num_{what}_per_model" for what in ("hits", "misses")),
    *(f"nv_cache_{what}_duration_per_model" for what in ("hit", "miss")),
    *("nv_cpu_utilization", "nv_cpu_memory_total_bytes", "nv_cpu_memory_used_bytes"),
}
CALL = {"model": "doubler", "inputs": {"x": [[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]]}}
V2_CALL = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
DOUBLER = {"model": "doubler", "version": "1.0"}


async def scrape(served: Served) -> str:
    reply = await served.api.get("/metrics")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == CONTENT_TYPE
    text: str = reply.value.decode()
    return text


async def status_of(served: Served, method: str, path: str, body: bytes = b"") -> int:
    """Of a reply that is no problem of ours: the Open Inference Protocol has its own."""
    url = served.url + path
    async with served.api.session.request(method, url, data=io.BytesIO(body)) as response:
        return response.status


def series(text: str) -> Series:
    """By name and labels; the parser puts `_total` after names of counters, which goes again."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            (family,) = text_string_to_metric_families(line + "\n")
            (sample,) = family.samples
            found[sample.name, frozenset(sample.labels.items())] = sample.value
    return found


def at(found: Series, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_the_reference_servers_names_are_in_the_table() -> None:
    assert FAMILIES.keys() >= PROMISED
    assert all(family.help.endswith(".") for family in FAMILIES.values())


async def test_every_name_of_the_table_is_told_with_its_kind_and_meaning(served: Served) -> None:
    text = await scrape(served)
    told = [family for family in text_string_to_metric_families(text) if family.documentation]
    kinds = {family.name: family.type for family in told}
    for name, family in FAMILIES.items():
        assert kinds[name.removesuffix("_total") if family.kind == "counter" else name] == (
            family.kind
        )
        assert f"# HELP {name} {family.help}" in text


async def test_every_surfaces_calls_count_alike(served: Served) -> None:
    await commit_doubler(served.api)
    assert (await served.api.post("/call", CALL)).status == 200
    assert (await served.api.post("/v2/models/doubler/infer", V2_CALL)).status == 200
    found = series(await scrape(served))
    assert at(found, "nv_inference_request_success", **DOUBLER) == 2
    assert at(found, "nv_inference_count", **DOUBLER) == 3
    assert at(found, "nv_inference_exec_count", **DOUBLER) == 2
    assert at(found, "nv_inference_pending_request_count", **DOUBLER) == 0
    name = "nv_inference_first_response_histogram_ms"
    assert at(found, f"{name}_count", **DOUBLER) == 2
    assert at(found, f"{name}_bucket", **DOUBLER, le="+Inf") == 2
    total = at(found, "nv_inference_request_duration_us", **DOUBLER)
    assert total > 0
    parts = [at(found, f"nv_inference_{part}_duration_us", **DOUBLER) for part in PARTS[1:]]
    assert sum(parts) == pytest.approx(total, abs=4)
    summary = "nv_inference_request_summary_us"
    assert at(found, f"{summary}_sum", **DOUBLER) == pytest.approx(total, abs=1)
    low, high = (at(found, summary, **DOUBLER, quantile=q) for q in ("0.5", "0.999"))
    assert 0 < low <= high <= total

    (row,) = (await served.api.get("/v2/models/doubler/stats")).value["model_stats"]
    assert row["inference_stats"]["success"]["count"] == 2
    assert row["inference_stats"]["success"]["ns"] // 1000 == pytest.approx(total, abs=1)


async def test_failures_count_by_their_reason(served: Served) -> None:
    await commit_doubler(served.api)
    wrong = {"model": "doubler", "inputs": {"x": [[1.0]]}}
    assert (await served.api.post("/call", wrong)).code == "invalid_input"
    assert await status_of(served, "POST", "/v2/models/doubler/infer", b'{"inputs": []}') == 400
    found = series(await scrape(served))
    name = "nv_inference_request_failure"
    assert at(found, name, **DOUBLER, reason="OTHER") == 2
    assert {at(found, name, **DOUBLER, reason=r) for r in ("REJECTED", "CANCELED", "BACKEND")} == {
        0
    }
    assert at(found, "nv_inference_request_success", **DOUBLER) == 0


async def test_a_version_that_is_deleted_is_told_of_no_more(served: Served) -> None:
    await commit_doubler(served.api)
    await served.api.post("/call", CALL)
    await served.api.delete("/models/doubler/versions/1.0")
    assert 'model="doubler"' not in await scrape(served)


async def test_requests_count_by_route_and_not_by_path(served: Served) -> None:
    for name in ("a", "b"):
        assert (await served.api.get(f"/models/{name}")).status == 404
    assert (await served.api.get("/nowhere")).status == 404
    assert await status_of(served, "GET", "/v2/nowhere") == 404
    found = series(await scrape(served))
    name = "aiaas_http_requests_total"
    assert at(found, name, method="GET", route="/models/{name}", status="404") == 2
    assert at(found, name, method="*", route="/{path:.*}", status="404") == 1
    assert at(found, name, method="*", route="/v2/{path:.*}", status="404") == 1
    name = "aiaas_http_request_duration_seconds_count"
    assert at(found, name, method="GET", route="/models/{name}") == 2
    assert at(found, "aiaas_http_requests_in_flight") == 1  # this one
    assert at(found, "aiaas_http_connections") >= 1
    assert at(found, "aiaas_http_body_bytes_in_flight") == 0


async def test_connections_are_counted_while_they_are_open(served: Served) -> None:
    before = at(series(await scrape(served)), "aiaas_http_connections")
    reply = await talk(served.port, head("GET", "/metrics"))
    assert at(series(reply.value.decode()), "aiaas_http_connections") == before + 1


async def test_nodes_mailboxes_and_workers_are_told(served: Served) -> None:
    await commit_doubler(served.api)
    await served.api.post("/call", CALL)
    found = series(await scrape(served))
    nodes = list(served.platform.cluster.nodes)
    assert at(found, "aiaas_ring_nodes") == len(nodes)
    assert sum(at(found, "aiaas_node_rows_total", node=n) for n in nodes) == 2
    assert sum(at(found, "aiaas_mailbox_accepted_total", node=n) for n in nodes) >= 1
    for node in nodes:
        assert at(found, "aiaas_worker_alive", node=node) == 1
        assert at(found, "aiaas_worker_started_total", node=node) == 1
        assert at(found, "aiaas_worker_deaths_total", node=node) == 0


async def test_the_machine_and_the_server_are_told(served: Served) -> None:
    found = series(await scrape(served))
    assert 0 <= at(found, "nv_cpu_utilization") <= 1
    used, total = (at(found, f"nv_cpu_memory_{what}_bytes") for what in ("used", "total"))
    assert 0 < used < total
    assert at(found, "aiaas_process_resident_bytes", process="server") > 1 << 20
    assert at(found, "aiaas_process_cpu_seconds_total", process="server") > 0
    assert at(found, "aiaas_info", version="0.1.0") == 1


async def test_a_name_with_quotes_and_breaks_cannot_break_the_text(served: Served) -> None:
    await served.api.get("/models/%22%0A%7B")
    assert series(await scrape(served))


def test_what_is_not_in_the_table_cannot_be_told() -> None:
    with pytest.raises(KeyError):
        Readings().take("aiaas_surprise", 1.0)


async def test_bytes_on_disk_are_told_by_what_they_are(served: Served, tmp_path: Path) -> None:
    data = weights(tmp_path)
    await commit_classifier(served.api, data)
    found = series(await scrape(served))
    sizes = [value for (name, _), value in found.items() if name == "aiaas_stored_bytes"]
    assert sizes == [len(data), 0]


async def test_running_training_tells_its_steps_and_its_speed(served: Served) -> None:
    record = JobRecord(id="a1", kind="train", state="running", request={}, created_at=0.0)
    job = Running(record)
    job.events.add("progress", {"step": 7, "samples_per_second": 123.5})
    served.platform.jobs._jobs["a1"] = job
    found = series(await scrape(served))
    assert at(found, "aiaas_jobs", kind="train", state="running") == 1
    assert at(found, "aiaas_job_steps", job="a1") == 7
    assert at(found, "aiaas_job_samples_per_second", job="a1") == 123.5


@pytest.mark.parametrize("served", [{"stall_ms": 20.0}], indirect=True)
async def test_a_stalled_loop_is_counted(served: Served) -> None:
    watch, give_up = served.platform.loop, time.monotonic() + 10
    while not watch.stalls and time.monotonic() < give_up:
        # That it blocks the loop is what is tested.
        time.sleep(0.001)  # noqa: ASYNC251
    assert at(series(await scrape(served)), "aiaas_loop_stalls_total") >= 1
