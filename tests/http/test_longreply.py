"""Long answers in JSON: readers write them, and they say what short ones do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aiaas_async.compute.inloop import InLoopWorker
from aiaas_async.compute.jobs import Job, WriteJson
from aiaas_async.wire.codecs import JSON, MSGPACK
from aiaas_async.wire.longjson import MANY
from aiaas_async.wire.tensors import pack_strings
from aiaas_async.wire.weight import HALVES_BYTES
from tests.http.api import Api
from tests.http.conftest import Served
from tests.http.echo import RUNTIMES, echo
from tests.http.models import V, commit_doubler, succeed
from tests.http.v2asking import INFER, ask, tensor
from tests.http.v2server import serving

ROWS = MANY // 4


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs that were to write JSON."""
    found: list[Job] = []
    submit = InLoopWorker.submit

    def watched(self: InLoopWorker, job: Job, *more: Any) -> Any:
        if isinstance(job, WriteJson):
            found.append(job)
        return submit(self, job, *more)

    monkeypatch.setattr(InLoopWorker, "submit", watched)
    return found


def rows(count: int) -> list[list[float]]:
    return [[n + 0.1, -n, 1e-9 * n, 0.0] for n in range(count)]


def doubled(given: list[list[float]]) -> Any:
    return (2 * np.array(given, np.float32)).tolist()


@pytest.mark.parametrize(("count", "by_reader"), [(ROWS, 0), (ROWS + 1, 1)])
async def test_a_call_is_answered_alike_however_long_the_answer(
    served: Served, written: list[Job], count: int, by_reader: int
) -> None:
    await commit_doubler(served.api)
    given = rows(count)
    reply = await succeed(served.api.post("/call", {"model": "doubler", "inputs": {"x": given}}))
    assert reply.value["outputs"] == {"doubled": doubled(given)}
    assert reply.value["model"] == "doubler"
    assert len(written) == by_reader


@pytest.mark.parametrize(("count", "by_reader"), [(ROWS, 0), (ROWS + 1, 1)])
async def test_an_infer_request_too(
    served: Served, written: list[Job], count: int, by_reader: int
) -> None:
    await commit_doubler(served.api)
    given = rows(count)
    answer = await ask(served, "POST", INFER, {"inputs": [tensor(given, shape=[count, 4])]})
    (output,) = answer.value["outputs"]
    assert (output["shape"], output["datatype"]) == ([count, 4], "FP32")
    assert output["data"] == np.ravel(doubled(given)).tolist()
    assert len(written) == by_reader


@pytest.mark.parametrize(("count", "by_reader"), [(ROWS, 0), (ROWS + 1, 1)])
@pytest.mark.parametrize("path", ["generate", "generate_stream"])
async def test_what_is_generated_too(
    served: Served, written: list[Job], path: str, count: int, by_reader: int
) -> None:
    await commit_doubler(served.api)
    given = [float(n % 7) for n in range(4 * count)]
    url = f"{served.url}/v2/models/doubler/{path}"
    async with served.api.session.post(url, data=JSON.encode({"x": given, "id": "a"})) as answer:
        said = (await answer.read()).removeprefix(b"data: ")
    assert JSON.decode(said) == {
        "id": "a",
        "model_name": "doubler",
        "model_version": "1.0",
        "doubled": [2 * number for number in given],
    }
    assert len(written) == by_reader


OVERFLOWING = pytest.mark.filterwarnings("ignore:overflow encountered in multiply:RuntimeWarning")
INFINITE = "holds inf at [{}], and JSON has no such number; ask for binary tensors or MessagePack"


def infinite(count: int) -> list[list[float]]:
    """Rows of which the last number doubles to infinity."""
    return [*[[0.0] * 4] * (count - 1), [0.0, 0.0, 0.0, 3e38]]


@OVERFLOWING
@pytest.mark.parametrize("count", [1, ROWS + 1])
async def test_infinity_is_refused_in_json_and_given_in_messagepack(
    served: Served, count: int
) -> None:
    await commit_doubler(served.api)
    body = {"model": "doubler", "inputs": {"x": np.array(infinite(count), np.float32)}}
    given = await succeed(served.speaking(MSGPACK).post("/call", body))
    assert bytes(given.value["outputs"]["doubled"]["data"])[-4:] == np.float32("inf").tobytes()
    reply = await served.api.post("/call", body)
    assert (reply.status, reply.code) == (422, "invalid_input")
    assert reply.detail == f"output 'doubled' {INFINITE.format(f'{count - 1}, 3')}"


@OVERFLOWING
@pytest.mark.parametrize("count", [1, ROWS + 1])
async def test_it_is_refused_to_an_infer_request_unless_it_asks_for_bytes(
    served: Served, count: int
) -> None:
    await commit_doubler(served.api)
    body: dict[str, Any] = {"inputs": [tensor(infinite(count), shape=[count, 4])]}
    answer = await ask(served, "POST", INFER, body)
    place = f"{4 * count - 1}" if count > 1 else "0, 3"
    assert (answer.status, answer.error) == (400, f"output 'doubled' {INFINITE.format(place)}")
    binary = {**body, "parameters": {"binary_data_output": True}}
    assert (await ask(served, "POST", INFER, binary)).rest[-4:] == np.float32("inf").tobytes()


@OVERFLOWING
@pytest.mark.parametrize("count", [1, ROWS + 1])
@pytest.mark.parametrize("path", ["generate", "generate_stream"])
async def test_it_is_not_generated(served: Served, path: str, count: int) -> None:
    await commit_doubler(served.api)
    body = {"x": [number for row in infinite(count) for number in row]}
    answer = await ask(served, "POST", f"/v2/models/doubler/{path}", body)
    assert answer.status == 400
    assert answer.error.startswith("output 'doubled' holds inf at [")


async def test_gradients_too(served: Served, written: list[Job]) -> None:
    await commit_doubler(served.api)
    body = {"inputs": {"x": rows(ROWS + 1)}, "targets": {"doubled": rows(ROWS + 1)}}
    asked: Mapping[str, Any] = {**body, "loss": "mse", "wrt": "inputs"}
    reply = await succeed(served.api.post(V.format("doubler") + "/gradient", asked))
    assert np.shape(reply.value["gradients"]["inputs"]["x"]) == (ROWS + 1, 4)
    assert len(written) == 1


@pytest.mark.parametrize("count", [1000, HALVES_BYTES // 4])
async def test_the_loss_is_the_same_however_long_the_inputs(served: Served, count: int) -> None:
    await commit_doubler(served.api)
    ones = np.ones((count // 4 + 1, 4), np.uint8)
    body = {"inputs": {"x": ones.astype(np.float16)}, "targets": {"doubled": ones}, "loss": "mse"}
    api = served.speaking(MSGPACK)
    reply = await succeed(api.post(V.format("doubler") + "/loss", body))
    assert reply.value["loss"] == 1.0


async def test_texts_of_a_long_answer_are_packed_as_those_of_a_short_one(scratch: Path) -> None:
    async with serving(scratch, RUNTIMES, echo("string", -1)) as served:
        for count in (3, MANY + 1):
            texts = [f"{n}" for n in range(count)]
            body = {"model": "echo", "inputs": {"x0": pack_strings(texts)}}
            headers = {"Content-Type": "application/msgpack"}
            url = served.url + "/call"
            async with served.api.session.post(
                url, data=MSGPACK.encode(body), headers=headers
            ) as answer:
                value = msgspec.msgpack.decode(await answer.read())
            assert value["outputs"] == {"out_x0": texts}


async def test_messagepack_needs_no_reader(api: Api, written: list[Job]) -> None:
    await commit_doubler(api)
    body = {"model": "doubler", "inputs": {"x": np.array(rows(ROWS + 1), np.float32)}}
    await succeed(api.post("/call", body))
    assert len(written) == (api.codec.name == "json")


@pytest.mark.parametrize(("count", "by_reader"), [(ROWS, 0), (ROWS + 1, 1)])
async def test_items_of_a_data_set_too(
    served: Served, written: list[Job], count: int, by_reader: int
) -> None:
    api, x = served.api, np.array(rows(count), np.float32)
    await succeed(api.put("/datasets/d", {"columns": {"x": {"dtype": "float32", "shape": [4]}}}))
    keys = [f"k{n}" for n in range(count)]
    await succeed(api.post("/datasets/d/items", {"keys": keys, "columns": {"x": rows(count)}}))
    for query in ("limit=10000", "start=0&stop=10000"):
        page = (await api.get(f"/datasets/d/items?{query}")).value
        assert (page["keys"], page["columns"]["x"], page["next"]) == (keys, x.tolist(), None)
    assert len(written) == 2 * by_reader


async def test_one_long_item_too(served: Served, written: list[Job]) -> None:
    api = served.api
    column = {"dtype": "int32", "shape": [MANY + 1]}
    await succeed(api.put("/datasets/d", {"columns": {"x": column, "y": {"dtype": "int8"}}}))
    x = list(range(MANY + 1))
    await succeed(api.post("/datasets/d/items", {"keys": ["k"], "columns": {"x": [x], "y": [7]}}))
    item = (await api.get("/datasets/d/items?key=k")).value
    assert item == {"key": "k", "columns": {"x": x, "y": 7}}
    assert len(written) == 1


@pytest.mark.parametrize("width", [4, MANY + 1])
async def test_what_json_has_no_form_of_is_refused_as_a_value_of_the_data_set(
    served: Served, width: int
) -> None:
    api, column = served.speaking(MSGPACK), {"dtype": "float32", "shape": [width]}
    await succeed(api.put("/datasets/d", {"columns": {"x": column}}))
    x = np.zeros((2, width), np.float32)
    x[1, 2] = np.nan
    await succeed(api.post("/datasets/d/items", {"keys": ["a", "b"], "columns": {"x": x}}))
    said = "value 'columns/x' holds nan at [{}], and JSON has no such number; ask for MessagePack"
    for query, at in (("key=b", "2"), ("limit=2", "1, 2"), ("start=0&stop=2", "1, 2")):
        await succeed(api.get(f"/datasets/d/items?{query}"))
        reply = await served.api.get(f"/datasets/d/items?{query}")
        assert (reply.status, reply.code) == (422, "invalid_input")
        assert reply.detail == said.format(at)
