"""/v2/logging, /v2/trace/setting and a load's configuration: switched while the server runs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiaas_async.http import v2trace
from aiaas_async.http.v2logging import PACKAGE, Levels
from tests.http.conftest import IN_COMMON, Served
from tests.http.models import commit_doubler
from tests.http.v2asking import INFER, ask, tensor

LOGGING, TRACE = "/v2/logging", "/v2/trace/setting"


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What a handler of the root logger writes, as an operator's would; all put back afterwards."""
    written: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(self.format(record))

    root, package = logging.getLogger(), logging.getLogger(PACKAGE)
    levels = (root.level, package.level)
    handler = Lines()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield written
    root.removeHandler(handler)
    root.setLevel(levels[0])
    package.setLevel(levels[1])
    for other in root.handlers:
        for added in [each for each in other.filters if isinstance(each, Levels)]:
            other.removeFilter(added)


def log() -> None:
    for level in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger(f"{PACKAGE}.tests"), level)(level)


def shown(lines: list[str]) -> list[str]:
    found = [line.rpartition(" ")[2] for line in lines]
    lines.clear()
    return found


async def test_each_level_is_switched_by_itself(served: Served, lines: list[str]) -> None:
    log()
    assert shown(lines) == ["info", "warning", "error"]
    for wanted, levels in (
        ({"log_info": False}, ["warning", "error"]),
        ({"log_info": True, "log_warning": False}, ["info", "error"]),
        ({"log_error": False, "log_verbose_level": 1}, ["debug", "info"]),
        ({"log_warning": True, "log_error": True, "log_info": None}, ["debug", "info"]),
    ):
        answer = await ask(served, "POST", LOGGING, wanted)
        assert answer.status == 200
        assert (await ask(served, "GET", LOGGING)).value == answer.value
        log()
        assert shown(lines)[: len(levels)] == levels
    assert answer.value == {
        "log_file": "",
        "log_info": True,
        "log_warning": True,
        "log_error": True,
        "log_verbose_level": 1,
        "log_format": "default",
    }


async def test_times_take_the_form_of_iso_8601(served: Served, lines: list[str]) -> None:
    await ask(served, "POST", LOGGING, {"log_format": "ISO8601"})
    log()
    time.strptime(lines[0].split()[0], "%Y-%m-%dT%H:%M:%S%z")
    lines.clear()
    await ask(served, "POST", LOGGING, {"log_format": "default"})
    log()
    assert len(lines[0].split()[0]) == len("2026-01-01")


@pytest.mark.parametrize(
    ("wanted", "status", "said"),
    [
        ({"log_file": "/etc/x"}, 501, "log file location can not be updated through network"),
        ({"log_info": 1}, 400, "Unable to parse 'log_info': attempt to access JSON non-boolean"),
        ({"log_verbose_level": -1}, 400, "Unable to parse 'log_verbose_level'"),
        ({"log_verbose_level": True}, 400, "Unable to parse 'log_verbose_level'"),
        ({"log_format": "xml"}, 400, "invalid argument for --log_format, got: 'xml'"),
        ({"log_infos": True}, 400, "no log setting is called 'log_infos'"),
        (b"[", 400, "failed to parse the request JSON buffer"),
    ],
)
async def test_log_settings_that_cannot_be_change_nothing(
    served: Served, lines: list[str], wanted: Any, status: int, said: str
) -> None:
    before = (await ask(served, "GET", LOGGING)).value
    answer = await ask(served, "POST", LOGGING, wanted)
    assert answer.status == status
    assert answer.error.startswith(said)
    assert (await ask(served, "GET", LOGGING)).value == before


def traces(served: Served, name: str = v2trace.FILE) -> list[dict[str, Any]]:
    file = Path(served.platform.settings.data_dir) / v2trace.FOLDER / name
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


async def infer(served: Served, count: int = 1) -> None:
    for _ in range(count):
        answer = await ask(served, "POST", INFER, {"inputs": [tensor()]}, {"X-Request-Id": "me"})
        assert answer.status == 200


async def test_a_trace_is_the_times_of_a_request_in_order(served: Served) -> None:
    await commit_doubler(served.api)
    await infer(served)
    assert traces(served) == []
    wanted = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"}
    answer = await ask(served, "POST", TRACE, wanted)
    assert answer.value == {
        "trace_file": "trace.jsonl",
        "trace_level": ["TIMESTAMPS"],
        "trace_rate": "1",
        "trace_count": "-1",
        "log_frequency": "0",
        "trace_mode": "triton",
    }
    before = time.time_ns()
    await infer(served)
    (trace,) = traces(served)
    assert (trace["id"], trace["model_name"], trace["model_version"]) == (1, "doubler", "1.0")
    assert (trace["request_id"], trace["batch_size"]) == ("me", 2)
    names = [point["name"] for point in trace["timestamps"]]
    assert names == ["REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_END", "REQUEST_END"]
    times = [point["ns"] for point in trace["timestamps"]]
    assert times == sorted(times)
    assert before - 10_000_000 < times[0] < times[-1] < time.time_ns() + 10_000_000


async def test_one_of_so_many_is_traced_until_there_were_so_many(served: Served) -> None:
    await commit_doubler(served.api)
    wanted = {"trace_level": ["TIMESTAMPS"], "trace_rate": "3", "trace_count": "2"}
    await ask(served, "POST", TRACE, wanted)
    await infer(served, 8)
    assert len(traces(served)) == 2
    assert (await ask(served, "GET", TRACE)).value["trace_count"] == "0"
    await infer(served, 4)
    assert len(traces(served)) == 2


async def test_a_frequency_cuts_traces_into_files(served: Served) -> None:
    await commit_doubler(served.api)
    wanted = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "log_frequency": "2"}
    await ask(served, "POST", TRACE, wanted)
    await infer(served, 5)
    assert [len(traces(served, f"trace.jsonl.{n}")) for n in range(3)] == [2, 2, 1]


async def test_traces_are_cut_into_so_many_files_at_most(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await commit_doubler(served.api)
    monkeypatch.setattr(v2trace, "MOST_FILES", 2)
    wanted = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "log_frequency": "1"}
    await ask(served, "POST", TRACE, wanted)
    await infer(served, 4)
    assert [len(traces(served, f"trace.jsonl.{n}")) for n in range(3)] == [1, 3, 0]


async def test_a_model_has_settings_of_its_own_until_they_are_taken_back(served: Served) -> None:
    await commit_doubler(served.api)
    path = "/v2/models/doubler/trace/setting"
    await ask(served, "POST", path, {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
    assert (await ask(served, "GET", TRACE)).value["trace_level"] == ["OFF"]
    await infer(served)
    assert len(traces(served)) == 1
    answer = await ask(served, "POST", path, {"trace_level": None, "trace_rate": None})
    assert (answer.value["trace_level"], answer.value["trace_rate"]) == (["OFF"], "1000")
    await infer(served)
    assert len(traces(served)) == 1
    assert (await ask(served, "GET", "/v2/models/none/trace/setting")).status == 404


async def test_no_more_is_traced_than_the_disk_is_given(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await commit_doubler(served.api)
    await ask(served, "POST", TRACE, {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
    monkeypatch.setattr(v2trace, "MOST_BYTES", 600)
    await infer(served, 3)
    assert len(traces(served)) == 1
    assert caplog.text.count("there are no more") == 1, "not for every request"


@IN_COMMON
@pytest.mark.parametrize(
    ("wanted", "status", "said"),
    [
        ({"trace_file": "/etc/x"}, 501, "trace file location can not be updated through network"),
        ({"trace_mode": "opentelemetry"}, 501, "trace mode can not be updated"),
        ({"trace_level": ["OFF", "TIMESTAMPS"]}, 400, "Expect only one trace level 'OFF' is"),
        ({"trace_level": ["TENSORS"]}, 400, "trace level 'TENSORS' is not supported"),
        ({"trace_level": 1}, 400, "Unable to parse 'trace_level'"),
        ({"trace_level": [[]]}, 400, "trace level [] is not supported"),
        ({"trace_rate": "x"}, 400, "Unable to parse 'trace_rate', got: 'x'"),
        ({"trace_rate": 7}, 400, "Unable to parse 'trace_rate', got: 7"),
        ({"trace_rate": "9" * 5000}, 400, "Unable to parse 'trace_rate', got: "),
        ({"trace_count": "-2"}, 400, "Unable to parse 'trace_count', value is out of range"),
        ({"log_frequency": "-1"}, 400, "Unable to parse 'log_frequency', value is out of range"),
        ({"trace_rates": "1"}, 400, "no trace setting is called 'trace_rates'"),
    ],
)
async def test_trace_settings_that_cannot_be_change_nothing(
    common: Served, wanted: Any, status: int, said: str
) -> None:
    before = (await ask(common, "GET", TRACE)).value
    answer = await ask(common, "POST", TRACE, {"log_frequency": "5", **wanted})
    assert answer.status == status
    assert answer.error.startswith(said)
    assert (await ask(common, "GET", TRACE)).value == before


LOAD = "/v2/repository/models/doubler/load"


async def test_a_load_may_set_how_calls_are_batched(served: Served) -> None:
    await commit_doubler(served.api)
    config = {
        "name": "doubler",
        "max_batch_size": "3",
        "dynamic_batching": {"max_queue_delay_microseconds": 5},
    }
    answer = await ask(served, "POST", LOAD, {"parameters": {"config": json.dumps(config)}})
    assert answer.status == 200, answer.value
    shown = (await ask(served, "GET", "/v2/models/doubler/config")).value
    assert shown["max_batch_size"] == 3
    assert shown["dynamic_batching"] == {"max_queue_delay_microseconds": 5}
    record = served.platform.models.catalog.version("doubler", "1.0")
    servable = await served.platform.models.servable(record)
    assert (servable.max_batch_size, servable.max_delay_s) == (3, 5e-6)
    assert (await ask(served, "POST", LOAD, shown | {"max_batch_size": 4})).status == 200
    assert (await ask(served, "GET", "/v2/models/doubler/config")).value["max_batch_size"] == 32


async def test_how_a_models_calls_are_batched_is_forgotten_with_the_model(served: Served) -> None:
    await commit_doubler(served.api)
    parameters = {"config": json.dumps({"max_batch_size": 3})}
    assert (await ask(served, "POST", LOAD, {"parameters": parameters})).status == 200
    assert (await ask(served, "DELETE", "/models/doubler")).status == 204
    await commit_doubler(served.api)
    assert (await ask(served, "GET", "/v2/models/doubler/config")).value["max_batch_size"] == 32


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"config": "no"}, "its configuration is not a JSON object"),
        ({"config": 7}, "its configuration is not a JSON object"),
        ({"config": '{"max_batch_size": 0}'}, "max_batch_size must be 1 to 65536, got 0"),
        ({"config": '{"max_batch_size": true}'}, "max_batch_size must be 1 to 65536"),
        ({"config": '{"backend": "python"}'}, "a load can change max_batch_size and"),
        ({"config": '{"dynamic_batching": {"x": 1}}'}, "dynamic_batching can hold"),
        ({"config": "{}", "file:1/m": "eA=="}, "files are not taken here"),
        ([1], "files are not taken here"),
    ],
)
async def test_other_changes_by_a_load_are_refused(
    served: Served, parameters: Any, said: str
) -> None:
    await commit_doubler(served.api)
    answer = await ask(served, "POST", LOAD, {"parameters": parameters})
    assert answer.status == 400
    assert answer.error.startswith(f"failed to load 'doubler', {said}")
