"""Bodies of the Open Inference Protocol against models that give back what they get."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.http.conftest import Served
from tests.http.echo import RUNTIMES, echo, simple
from tests.http.v2asking import ask, body_of
from tests.http.v2server import commit, serving


@pytest_asyncio.fixture
async def echoing(scratch: Path) -> AsyncIterator[Served]:
    """A server with the runtimes of `echo.py`."""
    async with serving(scratch, RUNTIMES) as served:
        yield served


async def test_long_json_and_texts_are_read_and_written_beside_the_loop(echoing: Served) -> None:
    await commit(echoing, echo("float32", -1, name="numbers"))
    await commit(echoing, echo("string", -1, name="texts"))
    values: dict[str, list[Any]] = {
        "numbers": [float(n) for n in range(40_000)],
        "texts": [f"text {n}" for n in range(40_000)],
    }
    for name, data in values.items():
        kind = {"numbers": "FP32", "texts": "BYTES"}[name]
        head = {"name": "x0", "datatype": kind, "shape": [1, len(data)], "data": data}
        answer = await ask(echoing, "POST", f"/v2/models/{name}/infer", {"inputs": [head]})
        assert answer.status == 200, answer.value
        assert answer.value["outputs"][0]["data"] == data


async def test_halves_have_no_json_on_the_way_back_either(echoing: Served) -> None:
    await commit(echoing, echo("float16", 1))
    one = {"name": "x0", "datatype": "FP16", "shape": [1, 1]}
    body, headers = body_of({"inputs": [{**one, "parameters": {"binary_data_size": 2}}]}, b"\0\0")
    answer = await ask(echoing, "POST", "/v2/models/echo/infer", body, headers)
    assert answer.status == 400
    assert answer.error.startswith("sending FP16 data via JSON is not supported")


async def test_classes_of_texts_are_refused(echoing: Served) -> None:
    await commit(echoing, echo("string", 1))
    head = {
        "inputs": [{"name": "x0", "datatype": "BYTES", "shape": [1, 1], "data": ["a"]}],
        "outputs": [{"name": "out_x0", "parameters": {"classification": 1}}],
    }
    answer = await ask(echoing, "POST", "/v2/models/echo/infer", head)
    assert (answer.status, answer.error) == (
        400,
        "class result not available for output 'out_x0' due to unsupported type 'BYTES'",
    )


async def test_inputs_of_different_batches_are_refused(echoing: Served) -> None:
    await commit(echoing, simple("int32"))
    one = {"name": "INPUT0", "datatype": "INT32", "shape": [1, 16], "data": [1] * 16}
    other = {"name": "INPUT1", "datatype": "INT32", "shape": [2, 16], "data": [1] * 32}
    answer = await ask(echoing, "POST", "/v2/models/simple/infer", {"inputs": [one, other]})
    assert answer.status == 400
    assert answer.error == "input 'INPUT1' batch size does not match other inputs for 'simple'"
