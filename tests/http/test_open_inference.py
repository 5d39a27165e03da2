"""/v2: the Open Inference Protocol over HTTP, byte by byte."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import numpy as np
import pytest

from aiaas_async.wire.open_inference import HEADER_LENGTH
from tests.http.conftest import Served
from tests.http.models import commit_doubler

ROWS = [[1.0, 2.0, 3.0, 4.0], [0.0, -1.0, 0.5, 8.0]]
INFER = "/v2/models/doubler/infer"


class Answer:
    """A response of the protocol: its JSON, and the tensors that follow."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body
        length = int(headers.get(HEADER_LENGTH, len(body)))
        self.value: Any = json.loads(body[:length]) if body else None
        self.rest = body[length:]

    @property
    def error(self) -> str:
        assert self.headers["Content-Type"] == "application/json"
        assert self.value.keys() == {"error"}
        text: str = self.value["error"]
        return text


async def ask(
    served: Served, method: str, path: str, body: Any = b"", headers: Any = None
) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with served.api.session.request(
        method, served.url + path, data=raw, headers=headers or {}
    ) as response:
        return Answer(response.status, response.headers, await response.read())


def tensor(data: Any = ROWS, **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2, 4], "datatype": "FP32", "data": data, **more}


def body_of(head: Any, *parts: bytes) -> tuple[bytes, dict[str, str]]:
    raw = json.dumps(head).encode()
    return raw + b"".join(parts), {HEADER_LENGTH: str(len(raw))}


BINARY = {"name": "x", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": 32}}
BYTES = np.array(ROWS, np.float32).tobytes()
DOUBLED = (2 * np.array(ROWS, np.float32)).tobytes()


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
