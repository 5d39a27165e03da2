"""Real servers and workers that die, hang, or are asked to stop."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from aiaas_async.jobs.events import Event
from aiaas_async.testing import server
from tests.http.models import metadata
from tests.http.processes import TIMEOUT_S, Remote, remote, serve_in_vain
from tests.http.traps import DIE, WAIT
from tests.training.data import GRAPH as POINTS_GRAPH
from tests.training.data import points

pytestmark = pytest.mark.real


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Remote]:
    with remote(tmp_path / "server") as running:
        running.commit_doubler()
        running.commit_trap()
        yield running


def elsewhere(there: Remote) -> str:
    """A key of the node that does not wait."""
    nodes = there.value("GET", "/nodes")["nodes"]
    (idle,) = [node["id"] for node in nodes if node["load"] == 0]
    keys = (f"key {n}" for n in range(100))
    return next(k for k in keys if there.value("GET", f"/ring?key={k}")["owner"] == idle)


def test_a_call_whose_worker_is_killed_is_done_again_and_others_never_notice(
    there: Remote, threads: ThreadPoolExecutor
) -> None:
    asked, worker = there.waiting_call(threads)
    key = elsewhere(there)
    assert there.doubles(key=key)
    os.kill(worker, signal.SIGKILL)
    assert there.doubles(key=key)
    second = there.begun()
    assert second != worker
    there.go()
    answer = asked.result()
    assert (answer.status_code, answer.json()["outputs"]) == (200, {"y": [14.0]})
    assert there.doubles()
    assert there.send("GET", "/health/ready").ok


def test_a_version_that_keeps_killing_its_worker_is_quarantined_and_others_serve(
    there: Remote,
) -> None:
    codes = []
    while "quarantined" not in codes:
        answer = there.call("trap", DIE)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        codes.append(answer.json()["code"])
    assert codes[0] == "worker_died"
    assert len(codes) <= 3
    assert there.call("trap", 1.0).json()["code"] == "quarantined"
    assert there.value("GET", "/models/trap")["versions"][0]["state"] == "quarantined"
    assert there.doubles()


def test_a_call_past_its_deadline_is_504_and_a_worker_that_hangs_is_replaced(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    with remote(tmp_path / "server", timeout_ms=1000) as there:
        there.commit_trap()
        asked = threads.submit(there.call, "trap", WAIT, timeout_ms=300)
        hung = os.pidfd_open(there.begun())
        answer = asked.result()
        assert (answer.status_code, answer.json()["code"]) == (504, "deadline")
        assert select.select([hung], [], [], 10)[0]  # it ended
        os.close(hung)
        assert there.call("trap", 1.0, timeout_ms=10_000).json()["outputs"] == {"y": [2.0]}


def test_callers_in_a_hurry_end_no_worker_that_computes(
    there: Remote, threads: ThreadPoolExecutor
) -> None:
    workers = set()
    for _ in range(3):
        asked = threads.submit(there.call, "trap", WAIT, timeout_ms=300, key="one node")
        workers.add(there.begun())
        assert asked.result().status_code == 504
        there.go()
        assert there.call("trap", 1.0, key="one node").json()["outputs"] == {"y": [2.0]}
    assert len(workers) == 1


def test_sigterm_lets_a_call_under_way_end_and_exits_with_0(
    there: Remote, threads: ThreadPoolExecutor
) -> None:
    asked, _ = there.waiting_call(threads)
    there.process.send_signal(signal.SIGTERM)
    while True:  # until it no longer listens
        try:
            socket.create_connection(("127.0.0.1", port_of(there))).close()
        except ConnectionResetError:
            continue  # taken by the kernel just before the socket closed
        except ConnectionRefusedError:
            break
    there.go()
    answer = asked.result()
    assert (answer.status_code, answer.json()["outputs"]) == (200, {"y": [14.0]})
    assert answer.headers["Connection"] == "close"
    assert there.process.wait(20) == 0


def test_control_c_exits_with_0(there: Remote) -> None:
    there.process.send_signal(signal.SIGINT)
    assert there.process.wait(20) == 0


def test_a_second_signal_ends_at_once(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    with pytest.raises(RuntimeError, match="status 130"):
        end_in_a_hurry(tmp_path, threads)


def end_in_a_hurry(folder: Path, threads: ThreadPoolExecutor) -> None:
    with remote(folder) as there:
        there.commit_trap()
        asked, _ = there.waiting_call(threads)
        there.process.send_signal(signal.SIGINT)
        there.process.send_signal(signal.SIGTERM)
        assert isinstance(asked.exception(), requests.RequestException)


def test_what_a_killed_server_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    with remote(folder) as there:
        there.commit_doubler()
        there.value("PUT", "/models/doubler/aliases/best", json={"version": "1.0"})
        there.value("POST", "/register", json=metadata("open"))
        there.value("PUT", "/models/open/versions/1.0/files/part", data=b"some bytes")
        there.value("PUT", "/datasets/points", json={"columns": COLUMNS})
        given = {name: array.tolist() for name, array in points(500).items()}
        there.value("POST", "/datasets/points/items", json={"columns": given})
        job = there.value("POST", "/train", json=ORDER)["job"]
        with there.send("GET", f"/jobs/{job}/events", stream=True) as events:
            next(line for line in events.iter_lines() if line == b"event: progress")
            there.process.kill()
        assert there.process.wait(20) == -signal.SIGKILL
    with remote(folder) as there:
        assert there.doubles(version="best")
        shown = there.value("GET", "/models/open/versions/1.0")
        assert [(f["path"], f["size"]) for f in shown["files"]] == [("part", 10)]
        stored = there.send("GET", "/models/open/versions/1.0/files/part")
        assert stored.content == b"some bytes"
        assert there.value("GET", "/datasets/points")["count"] == 500
        with there.send("GET", f"/jobs/{job}/events", stream=True) as events:
            kinds = [line for line in events.iter_lines() if line.startswith(b"event: ")]
        assert kinds[-1] == b"event: end"
        ended = there.value("GET", f"/jobs/{job}")
        assert (ended["state"], ended["starts"]) == ("succeeded", 2)
        assert there.value("GET", "/models/m/versions/1.0")["state"] == "ready"


def test_a_batch_job_whose_server_is_killed_does_the_rest_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    folder, count = tmp_path / "server", 20_000
    with remote(folder) as there:
        there.commit_doubler()
        column = {"x": {"dtype": "float32", "shape": [4]}}
        there.value("PUT", "/datasets/things", json={"columns": column})
        keys = [f"key {number}" for number in range(count)]
        given = {"x": [[float(number)] * 4 for number in range(count)]}
        there.value("POST", "/datasets/things/items", json={"keys": keys, "columns": given})
        order = {"model": "doubler", "dataset": "things", "output_dataset": "results"}
        job = there.value("POST", "/batch", json={**order, "task_items": 10})["job"]
        stored = (event.data.get("done", 0) for event in told_of(there, job))
        before = next(done for done in stored if done)
        there.process.kill()
    with remote(folder) as there:
        assert list(told_of(there, job))[-1].kind == "end"
        result = there.value("GET", f"/jobs/{job}")["result"]
        assert before <= result["skipped"] < count
        assert (result["done"], there.value("GET", "/datasets/results")["count"]) == (count, count)
        found: dict[str, list[float]] = {}
        for start in range(0, count, 5000):
            page = there.value("GET", f"/datasets/results/items?start={start}&stop={start + 5000}")
            found |= dict(zip(page["keys"], page["columns"]["doubled"], strict=True))
        assert found == {f"key {number}": [2.0 * number] * 4 for number in range(count)}


COLUMNS = {"x": {"dtype": "float32", "shape": [6]}, "y": {"dtype": "int64", "shape": []}}
ORDER: dict[str, Any] = {
    "model": "m",
    "version": "1.0",
    "dataset": "points",
    "graph": POINTS_GRAPH,
    "plan": {"epochs": 150, "batch_size": 4, "target": "y"},
}


def test_a_killed_run_goes_on_from_its_checkpoint_and_who_follows_again_hears_of_it(
    tmp_path: Path,
) -> None:
    folder, plan = tmp_path / "server", {**ORDER["plan"], "checkpoint_every_steps": 20}
    with remote(folder) as there:
        there.value("PUT", "/datasets/points", json={"columns": COLUMNS})
        given = {name: array.tolist() for name, array in points(500).items()}
        there.value("POST", "/datasets/points/items", json={"columns": given})
        job = there.value("POST", "/train", json={**ORDER, "plan": plan})["job"]
        events = told_of(there, job)
        before = next(event for event in events if event.data.get("epoch", 0) >= 3)
        there.process.kill()
    with remote(folder) as there:
        events = told_of(there, job, {"Last-Event-ID": str(before.number)})
        told = [event.data for event in events if event.kind == "progress"]
        (resumed,) = [facts for facts in told if "resumed" in facts]
        assert resumed["step"] >= before.data["step"] - 20
        assert {facts["epoch"] for facts in told if "val_loss" in facts} == set(range(1, 151))
        assert there.value("GET", f"/jobs/{job}")["result"]["epochs"] == 150


def told_of(there: Remote, job: str, headers: dict[str, str] | None = None) -> Iterator[Event]:
    """The job's server-sent events until it ends."""
    facts: dict[str, str] = {}
    with there.send("GET", f"/jobs/{job}/events", headers=headers, stream=True) as stream:
        for line in stream.iter_lines():
            name, _, value = line.decode().partition(": ")
            if line:
                facts[name] = value
            elif facts:
                yield Event(int(facts["id"]), facts["event"], json.loads(facts["data"]))
                facts = {}


def test_a_file_damaged_on_disk_is_told_and_the_other_versions_serve(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    with remote(folder) as there:
        there.commit_doubler()
        there.commit_trap()
        shown = there.value("GET", "/models/trap/versions/1.0")
    sha256 = shown["files"][0]["sha256"]
    (folder / "data" / "artifacts" / sha256[:2] / sha256).write_bytes(b"not")
    with remote(folder) as there:
        answer = there.call("trap", 1.0)
        assert (answer.status_code, answer.json()["code"]) == (409, "corrupt")
        assert "other bytes than committed" in answer.json()["detail"]
        assert there.doubles()
        assert there.value("GET", "/models/trap/versions/1.0")["state"] == "corrupt"


def test_a_second_server_on_the_same_data_exits_with_2_and_one_line(there: Remote) -> None:
    ended = serve_in_vain("--port", "0", "--data-dir", str(there.folder / "data"))
    assert ended.returncode == 2
    assert ended.stderr.startswith("aiaas serve: the data directory is in use by another server")
    assert there.doubles()


def test_a_busy_port_exits_with_2_and_one_line(there: Remote, tmp_path: Path) -> None:
    ended = serve_in_vain("--port", str(port_of(there)), "--data-dir", str(tmp_path / "other"))
    assert ended.returncode == 2
    assert ended.stderr.startswith("aiaas serve: cannot listen on 127.0.0.1:")
    assert "--port" in ended.stderr.splitlines()[0]
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--port", "70000"], "port"),
        (["--nodes", "-1"], "nodes"),
        (["--host", "0.0.0.0"], "allow_remote"),
        (["--log-level", "loud"], "log_level"),
        (["--config", "/nowhere/x.toml"], "cannot be read"),
        (["--data-dir", "/proc/none"], "data directory"),
        (["--host", "a..b", "--allow-remote"], "a..b:0: Name or service not known"),
    ],
)
def test_a_bad_setting_exits_with_2_and_one_line(flags: list[str], told: str) -> None:
    ended = serve_in_vain("--port", "0", *flags)
    assert ended.returncode == 2
    (line,) = [each for each in ended.stderr.splitlines() if each.startswith("aiaas serve: ")]
    assert told in line


def test_a_start_that_fails_says_one_line_and_nothing_else() -> None:
    ended = serve_in_vain("--port", "0", "--data-dir", "/proc/none")
    assert (ended.returncode, lines(ended.stderr)) == (2, 1)


def test_one_connection_too_many_is_answered_by_a_served_server_too(tmp_path: Path) -> None:
    """uvloop's transports are none of asyncio's classes."""
    config = tmp_path / "config.toml"
    config.write_text("nodes = 1\nmax_connections = 2\n")
    with server(tmp_path / "data", "--config", str(config)) as running, ExitStack() as stack:
        port = int(running.url.rpartition(":")[2])

        def connected() -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", port), TIMEOUT_S))

        inside = [connected(), connected()]
        for each in inside:
            each.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert each.recv(1000).startswith(b"HTTP/1.1 200")
        for _ in range(4):  # those that are turned away make no room
            assert connected().recv(1000).startswith(b"HTTP/1.1 503")


def test_clients_that_hang_up_leave_nothing_behind(
    there: Remote, threads: ThreadPoolExecutor
) -> None:
    asked, _ = there.waiting_call(threads)
    before = descriptors(there)
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", port_of(there))) as leaver:
            leaver.sendall(
                b"POST /call HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b'Content-Length: 41\r\n\r\n{"model": "trap", "inputs": {"x": [1.0]}}'
            )
    there.go()
    assert asked.result().status_code == 200
    patience = time.monotonic() + 10
    while descriptors(there) > before:
        assert time.monotonic() < patience
    assert sum(node["load"] for node in there.value("GET", "/nodes")["nodes"]) == 0
    computed = [n["statistics"]["rows"] for n in there.value("GET", "/nodes")["nodes"]]
    # Nearly all were dropped: at most what was handed to the worker before its caller left.
    assert sum(computed) < 25


def descriptors(there: Remote) -> int:
    return len(list(Path(f"/proc/{there.process.pid}/fd").iterdir()))


def port_of(there: Remote) -> int:
    return int(there.running.url.rpartition(":")[2])


def lines(text: str) -> int:
    return len(text.strip().splitlines())
