"""/v2: the Open Inference Protocol over HTTP, byte by byte."""

from __future__ import annotations

import gzip
import json
import re
import time
import zlib
from typing import Any

import numpy as np
import pytest
from yarl import URL

from aiaas_async.http.open_inference import ROUTES
from aiaas_async.service.calls import CallAnswer, CallRequest, Calls
from aiaas_async.wire.open_inference import HEADER_LENGTH
from tests.http.conftest import Served
from tests.http.models import commit_doubler, doubler, succeed
from tests.http.v2asking import BINARY, BYTES, DOUBLED, INFER, ROWS, Answer, ask, body_of, tensor


@pytest.mark.parametrize("data", [ROWS, ROWS[0] + ROWS[1]], ids=["nested", "flat"])
async def test_json_in_gives_flat_json_out(served: Served, data: Any) -> None:
    await commit_doubler(served.api)
    answer = await ask(served, "POST", INFER, {"id": "7", "inputs": [tensor(data)]})
    assert answer.status == 200, answer.value
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.value["id"] == "7"
    assert (answer.value["model_name"], answer.value["model_version"]) == ("doubler", "1.0")
    (output,) = answer.value["outputs"]
    assert output == {
        "name": "doubled",
        "datatype": "FP32",
        "shape": [2, 4],
        "data": [2 * x for row in ROWS for x in row],
    }


async def test_bytes_in_and_out(served: Served) -> None:
    await commit_doubler(served.api)
    body, headers = body_of({"inputs": [BINARY], "parameters": {"binary_data_output": True}}, BYTES)
    answer = await ask(served, "POST", INFER, body, headers)
    assert answer.status == 200, answer.value
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.rest == DOUBLED
    (output,) = answer.value["outputs"]
    assert output["parameters"] == {"binary_data_size": 32}
    assert "data" not in output
    assert "id" not in answer.value


async def test_a_raw_body_is_the_one_input_and_all_outputs_are_bytes(served: Served) -> None:
    await commit_doubler(served.api)
    answer = await ask(served, "POST", INFER, BYTES[:16], {HEADER_LENGTH: "0"})
    assert (answer.status, answer.rest) == (200, DOUBLED[:16]), answer.value
    assert answer.value["outputs"][0]["shape"] == [1, 4]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_the_header_length_counts_inflated_bytes(served: Served, coding: str) -> None:
    await commit_doubler(served.api)
    body, headers = body_of({"inputs": [BINARY]}, BYTES)
    packed = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    answer = await ask(served, "POST", INFER, packed, {**headers, "Content-Encoding": coding})
    assert answer.status == 200, answer.value
    assert answer.value["outputs"][0]["data"] == [2 * x for row in ROWS for x in row]


async def test_unknown_models_and_versions_are_named(served: Served) -> None:
    await commit_doubler(served.api)
    for path in ("", "/ready", "/config", "/stats"):
        answer = await ask(served, "GET", f"/v2/models/none{path}")
        assert answer.status == 404
        assert answer.error == "Request for unknown model: 'none' is not found"
        answer = await ask(served, "GET", f"/v2/models/doubler/versions/7{path}")
        assert answer.status == 404
        assert answer.error == "Request for unknown model: 'doubler' version 7 is not found"


async def test_a_whole_number_is_the_version_that_equals_it(served: Served) -> None:
    await commit_doubler(served.api)
    for version in ("1.0", "1", "latest"):
        path = f"/v2/models/doubler/versions/{version}/infer"
        answer = await ask(served, "POST", path, {"inputs": [tensor()]})
        assert (answer.status, answer.value["model_version"]) == (200, "1.0")


async def test_what_is_not_there_is_told_in_the_protocols_form(served: Served) -> None:
    answer = await ask(served, "GET", "/v2/nothing")
    assert (answer.status, answer.error) == (404, "Not Found")
    answer = await ask(served, "GET", INFER)
    assert (answer.status, answer.error) == (405, "Method Not Allowed")
    assert answer.headers["Allow"] == "POST"
    answer = await ask(served, "GET", "/v2", headers={"Origin": "http://evil.example"})
    assert answer.status == 403
    assert "other origins" in answer.error


async def test_metadata_leads_with_the_batch(served: Served) -> None:
    await commit_doubler(served.api)
    expected = {
        "name": "doubler",
        "versions": ["1.0"],
        "platform": "numpy",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "doubled", "datatype": "FP32", "shape": [-1, 4]}],
    }
    for path in ("", "/versions/1.0", "/versions/1"):
        answer = await ask(served, "GET", f"/v2/models/doubler{path}")
        assert (answer.status, answer.value) == (200, expected)


async def test_health_and_readiness_have_no_body(served: Served) -> None:
    await commit_doubler(served.api)
    for path in ("health/live", "health/ready", "models/doubler/ready"):
        answer = await ask(served, "GET", f"/v2/{path}")
        assert (answer.status, answer.body) == (200, b""), path
    served.platform.stopping.set()
    assert (await ask(served, "GET", "/v2/health/ready")).status == 400
    assert (await ask(served, "GET", "/v2/health/live")).status == 200


async def test_a_version_without_files_is_known_but_not_ready(served: Served) -> None:
    await served.api.post("/register", doubler())
    answer = await ask(served, "GET", "/v2/models/doubler/ready")
    assert (answer.status, answer.error) == (400, "Model version not ready")
    answer = await ask(served, "POST", INFER, {"inputs": [tensor()]})
    assert answer.status == 503
    assert answer.error == "Request for unknown model: 'doubler' has no available versions"
    answer = await ask(served, "GET", "/v2/models/doubler/versions/1.0/config")
    assert answer.error == "Request for unknown model: 'doubler' version 1.0 is not at ready state"
    (row,) = (await ask(served, "POST", "/v2/repository/index")).value
    assert (row["state"], row["reason"]) == ("UNAVAILABLE", "its files are not committed")
    answer = await ask(served, "POST", "/v2/repository/models/doubler/load")
    assert answer.error.startswith("failed to load 'doubler'")


async def test_the_index_of_what_is_ready_leaves_out_the_rest(served: Served) -> None:
    await commit_doubler(served.api)
    await served.api.post("/register", doubler("other"))
    (row,) = (await ask(served, "POST", "/v2/repository/index", {"ready": True})).value
    assert row == {"name": "doubler", "version": "1.0", "state": "READY"}
    assert len((await ask(served, "POST", "/v2/repository/index", {})).value) == 2
    answer = await ask(served, "POST", "/v2/repository/index", {"ready": 1})
    assert (answer.status, answer.error) == (
        400,
        "Invalid value for 'ready': expected a boolean",
    )


async def test_an_unload_is_forgotten_with_its_version(served: Served) -> None:
    await commit_doubler(served.api)
    assert (await ask(served, "POST", "/v2/repository/models/doubler/unload")).status == 200
    assert (await ask(served, "POST", INFER, {"inputs": [tensor()]})).status == 503
    await served.api.delete("/models/doubler")
    await commit_doubler(served.api)
    assert (await ask(served, "POST", INFER, {"inputs": [tensor()]})).status == 200


async def test_a_repository_has_no_name(served: Served) -> None:
    for path in ("index", "models/m/load", "models/m/unload"):
        answer = await ask(served, "POST", f"/v2/repository/mine/{path}")
        assert (answer.status, answer.error) == (
            501,
            "'repository_name' specification is not supported",
        )


async def test_statistics_count_what_succeeded_and_what_failed(served: Served) -> None:
    await commit_doubler(served.api)
    for _ in range(3):
        await ask(served, "POST", INFER, {"inputs": [tensor()]})
    await ask(served, "POST", INFER, {"inputs": []})
    (row,) = (await ask(served, "GET", "/v2/models/doubler/stats")).value["model_stats"]
    assert (row["name"], row["version"]) == ("doubler", "1.0")
    assert (row["inference_count"], row["execution_count"]) == (6, 3)
    stats = row["inference_stats"]
    assert (stats["success"]["count"], stats["fail"]["count"]) == (3, 1)
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert sum(stats[part]["ns"] for part in parts) <= stats["success"]["ns"]
    (batch,) = row["batch_stats"]
    assert (batch["batch_size"], batch["compute_infer"]["count"]) == (2, 3)
    assert all(held["byte_size"] >= 0 for held in row["memory_usage"])
    assert abs(row["last_inference"] / 1000 - time.time()) < 60


async def test_a_reply_says_batch_and_times(served: Served) -> None:
    await commit_doubler(served.api)
    answer = await ask(served, "POST", INFER, {"inputs": [tensor()]})
    facts = answer.value["parameters"]
    assert facts["batch_size"] == 2
    assert facts.keys() == {"batch_size", "queue_us", "compute_us"}


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (b"", {}, "failed to parse the request JSON buffer"),
        (b"{}", {HEADER_LENGTH: "3"}, "inference header size should be in range (0, 2), got: 3"),
        (b"{}", {HEADER_LENGTH: "-1"}, "inference header size should be in range (0, 2), got: -1"),
        (b"{}", {"Content-Encoding": "br"}, "Content-Encoding 'br' is not supported"),
        (b"{}", {"Content-Encoding": "gzip"}, "the body is not valid gzip"),
        (gzip.compress(b"0" * (3 << 20)), {"Content-Encoding": "gzip"}, "the body has at least"),
        (b"[" * 101 + b"]" * 101, {}, "JSON nesting depth exceeds maximum allowed limit (100)"),
        (b"1" * 8, {HEADER_LENGTH: "0"}, "input byte size mismatch for input 'x'"),
        ({"inputs": [BINARY]}, {}, "unexpected size for input 'x', expecting 32 additional bytes"),
        (
            {"inputs": [tensor([0.0, 1e39] * 4)]},
            {},
            "input 'x' holds inf at [0, 1], or a number beyond float32 (3.403e+38 at most)",
        ),
        ({"inputs": [tensor(shape=[2**40, 4])]}, {}, "Unable to parse 'shape'"),
    ],
)
async def test_bad_input_is_400_in_words(
    served: Served, body: Any, headers: dict[str, str], said: str
) -> None:
    await commit_doubler(served.api)
    answer = await ask(served, "POST", INFER, body, headers)
    assert answer.status == 400
    assert answer.error.startswith(said)


async def test_too_little_time_is_503(served: Served) -> None:
    await commit_doubler(served.api)
    head = {"inputs": [tensor()], "parameters": {"timeout": 1}}
    answer = await ask(served, "POST", INFER, head)
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(
    "name", ["%00", "%0a", "%ff", "..", "a%2Fb", "x" * 3000, "%E2%80%AE", "'", "{name}"]
)
async def test_strange_names_find_nothing(served: Served, name: str) -> None:
    await commit_doubler(served.api)
    for method, path in (
        ("GET", f"/v2/models/{name}"),
        ("GET", f"/v2/models/doubler/versions/{name}"),
        ("GET", f"/v2/models/{name}/stats"),
        ("POST", f"/v2/models/{name}/infer"),
        ("POST", f"/v2/repository/models/{name}/load"),
        ("POST", f"/v2/repository/models/{name}/unload"),
        ("GET", f"/v2/{name}"),
    ):
        url = URL(served.url + path, encoded=True)
        async with served.api.session.request(method, url, data=b"{}") as response:
            answer = Answer(response.status, response.headers, await response.read())
        assert answer.status in (400, 404), path
        assert len(answer.error) < 300


async def test_every_route_refuses_other_hosts_and_methods_in_its_own_form(served: Served) -> None:
    for method, route, _ in ROUTES[:-2]:
        path = re.sub(r"{[^}]*}", "m", route)
        answer = await ask(served, method, path, headers={"Host": "evil.example"})
        assert answer.status == 421, path
        assert "evil.example" in answer.error
        answer = await ask(served, "PATCH", path)
        assert (answer.status, answer.error) == (405, "Method Not Allowed"), path
        assert method in answer.headers["Allow"].split(", ")


async def test_an_alias_in_the_path_shares_its_calls(served: Served) -> None:
    await commit_doubler(served.api)
    await succeed(served.api.post("/register", {**doubler(), "version": "2.0"}))
    await succeed(served.api.post("/models/doubler/versions/2.0/commit"))
    alias = {"version": "1.0", "canary": "2.0", "weight": 1.0}
    await succeed(served.api.put("/models/doubler/aliases/live", alias))
    path = "/v2/models/doubler/versions/live/infer"
    answer = await ask(served, "POST", path, {"inputs": [tensor()]})
    assert (answer.status, answer.value["model_version"]) == (200, "2.0")
    (row,) = (await ask(served, "GET", "/v2/models/doubler/versions/2.0/stats")).value[
        "model_stats"
    ]
    assert row["inference_stats"]["success"]["count"] == 1


@pytest.mark.parametrize("served", [{"access_log": True}], indirect=True)
async def test_requests_of_the_protocol_are_logged_too(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "aiaas.access"):
        await ask(served, "GET", "/v2/models/none")
    (line,) = [json.loads(r.getMessage()) for r in caplog.records if r.name == "aiaas.access"]
    assert (line["path"], line["status"]) == ("/v2/models/none", 404)


@pytest.mark.parametrize("name", ["a" * n for n in range(1, 6)])
async def test_binary_tensors_lie_where_numpy_computes_on_them_without_a_copy(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await commit_doubler(served.api)
    seen: list[bool] = []

    async def call(request: CallRequest) -> CallAnswer:
        seen.extend(array.flags.aligned for array in request.inputs.values())
        return await Calls.call(served.platform.calls, request)

    monkeypatch.setattr(served.platform.calls, "call", call)
    x = np.ones((30_000, 4), np.float32)  # in more than one piece
    sizes = {"parameters": {"binary_data_size": x.nbytes}}
    one = {"name": "x", "shape": [30_000, 4], "datatype": "FP32", **sizes}
    body, headers = body_of({"id": name, "inputs": [one]}, x.tobytes())
    reply = await ask(served, "POST", INFER, body, headers)
    assert (reply.status, seen) == (200, [True])


async def test_a_field_given_twice_counts_as_its_last(served: Served) -> None:
    await commit_doubler(served.api)
    good, bad = json.dumps([tensor()]), json.dumps([tensor(shape=[1, 1])])
    for first, last, status in ((bad, good, 200), (good, bad, 400)):
        body = f'{{"inputs": {first}, "inputs": {last}}}'.encode()
        assert (await ask(served, "POST", INFER, body)).status == status


async def test_what_the_reference_server_says_of_bodies_that_lie(served: Served) -> None:
    await commit_doubler(served.api)
    body, headers = body_of({"inputs": [BINARY]}, BYTES, b"more")
    answer = await ask(served, "POST", INFER, body, headers)
    assert (answer.status, answer.error) == (
        400,
        "unexpected additional input data for model 'doubler'",
    )
    body, headers = body_of({"inputs": [BINARY], "outputs": [{"name": "doubled"}] * 2}, BYTES)
    answer = await ask(served, "POST", INFER, body, headers)
    assert (answer.status, answer.error) == (400, "output 'doubled' already exists in request")
    for shape in ([-1, 4], [2**62, 4], [2**63, 2], [2**31, 2**31, 2**31], [1.0, 4], [True, 4]):
        body, headers = body_of({"inputs": [{**BINARY, "shape": shape}]}, BYTES)
        answer = await ask(served, "POST", INFER, body, headers)
        assert answer.status == 400, shape
        assert answer.error.startswith("Unable to parse 'shape'"), shape


@pytest.mark.parametrize("region", ["", "/region/r"])
@pytest.mark.parametrize("kind", ["system", "cuda"])
async def test_shared_memory_is_refused_in_words(served: Served, kind: str, region: str) -> None:
    for method, action in (("GET", "status"), ("POST", "register"), ("POST", "unregister")):
        path = f"/v2/{kind}sharedmemory{region}/{action}"
        answer = await ask(
            served, method, path, {"key": "/k", "byte_size": 1} if method == "POST" else b""
        )
        assert (answer.status, answer.error) == (
            501,
            f"the server does not support {kind} shared memory",
        )
