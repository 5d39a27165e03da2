"""The reference server's own client, in both of its forms, against a real server process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import ml_dtypes
import numpy as np
import pytest
import requests
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from aiaas_async.runtimes.base import Array
from aiaas_async.testing import server
from tests.http.echo import RUNTIMES, echo, simple
from tests.http.models import doubler

pytestmark = pytest.mark.real

DTYPES: Final = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
LEFT: Final = np.arange(16, dtype=np.int32).reshape(1, 16)
RIGHT: Final = np.ones((1, 16), np.int32)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the example models; the client wants the address without a scheme."""
    folder = tmp_path_factory.mktemp("v2")
    config = folder / "config.toml"
    rows = [f'[runtimes.{name}]\ntarget = "{target}"\n' for name, target in RUNTIMES.items()]
    config.write_text("nodes = 2\n" + "".join(rows))
    with server(folder / "data", "--config", str(config)) as running:
        for metadata in (
            doubler(),
            simple("int32"),
            simple("int8", "simple_int8"),
            simple("string", "simple_string"),
            echo("string", -1, name="simple_identity"),
            *(echo(dtype, -1, name=f"echo_{dtype}") for dtype in DTYPES),
        ):
            commit(running.url, metadata, folder)
        yield running.url.removeprefix("http://")


def commit(url: str, metadata: dict[str, Any], folder: Path) -> None:
    version = f"{url}/models/{metadata['name']}/versions/1.0"
    requests.post(f"{url}/register", json=metadata, timeout=20).raise_for_status()
    if "graph" not in metadata:
        requests.put(f"{version}/files/any", data=b"any", timeout=20).raise_for_status()
    requests.post(f"{version}/commit", timeout=20).raise_for_status()


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with triton.InferenceServerClient(address) as made:
        yield made


def given(name: str, array: Array, datatype: str, *, binary: bool = True) -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    return made.set_data_from_numpy(array, binary_data=binary)


def simple_inputs(left: Array = LEFT, right: Array = RIGHT, datatype: str = "INT32") -> list[Any]:
    return [given("INPUT0", left, datatype), given("INPUT1", right, datatype)]


def test_health_and_readiness(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    assert client.is_model_ready("simple", "1")
    assert not client.is_model_ready("none")


def test_metadata_of_the_server_and_of_a_model(client: Any) -> None:
    metadata = client.get_server_metadata()
    assert metadata["name"] == "aiaas-async"
    assert "binary_tensor_data" in metadata["extensions"]
    metadata = client.get_model_metadata("simple", query_params={"any": 1})
    assert metadata["versions"] == ["1.0"]
    first = {"name": "INPUT0", "datatype": "INT32", "shape": [-1, 16]}
    assert metadata["inputs"] == [first, {**first, "name": "INPUT1"}]
    with pytest.raises(InferenceServerException, match="Request for unknown model: 'none' is not"):
        client.get_model_metadata("none")


def test_configuration(client: Any) -> None:
    config = client.get_model_config("simple", "1.0")
    assert (config["name"], config["max_batch_size"]) == ("simple", 32)
    assert config["input"][0] == {"name": "INPUT0", "data_type": "TYPE_INT32", "dims": [16]}
    assert client.get_model_config("simple_string")["input"][0]["data_type"] == "TYPE_STRING"


def test_inference_in_bytes_by_default(client: Any) -> None:
    result = client.infer("simple", simple_inputs(), request_id="17")
    assert (result.as_numpy("OUTPUT0") == LEFT + RIGHT).all()
    assert (result.as_numpy("OUTPUT1") == LEFT - RIGHT).all()
    response = result.get_response()
    assert (response["id"], response["model_version"]) == ("17", "1.0")


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [(True, True), (False, False), (True, False)])
def test_inputs_and_outputs_in_json_in_bytes_and_mixed(
    client: Any, binary: tuple[bool, bool], coding: str | None
) -> None:
    result = client.infer(
        "simple",
        [
            given("INPUT0", LEFT, "INT32", binary=binary[0]),
            given("INPUT1", RIGHT, "INT32", binary=binary[1]),
        ],
        outputs=[
            triton.InferRequestedOutput("OUTPUT1", binary_data=binary[1]),
            triton.InferRequestedOutput("OUTPUT0", binary_data=binary[0]),
        ],
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    assert (result.as_numpy("OUTPUT0") == LEFT + RIGHT).all()
    assert (result.as_numpy("OUTPUT1") == LEFT - RIGHT).all()
    assert [out["name"] for out in result.get_response()["outputs"]] == ["OUTPUT1", "OUTPUT0"]


def test_custom_parameters_priority_timeout_and_headers_are_taken(client: Any) -> None:
    result = client.infer(
        "simple",
        simple_inputs(),
        model_version="1",
        parameters={"mine": "x", "count": 3, "yes": True},
        priority=2,
        timeout=5_000_000,
        sequence_id=9,
        sequence_start=True,
        headers={"x-any": "1"},
        query_params={"a": [1, 2]},
    )
    assert (result.as_numpy("OUTPUT0") == LEFT + RIGHT).all()


def test_inference_without_waiting(client: Any) -> None:
    asked = [client.async_infer("simple", simple_inputs(LEFT * n)) for n in range(4)]
    for n, waiting in enumerate(asked):
        assert (waiting.get_result().as_numpy("OUTPUT0") == LEFT * n + RIGHT).all()


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_datatype_comes_back(client: Any, dtype: str, binary: bool) -> None:
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    asked = given("x0", array, DTYPES[dtype], binary=binary)
    wanted = [triton.InferRequestedOutput("out_x0", binary_data=binary)]
    if dtype == "float16" and not binary:
        with pytest.raises(InferenceServerException, match="receiving FP16 data via JSON is not"):
            client.infer(f"echo_{dtype}", [asked], outputs=wanted)
        return
    found = client.infer(f"echo_{dtype}", [asked], outputs=wanted).as_numpy("out_x0")
    assert found.dtype == array.dtype
    assert (found == array).all()


def test_bfloat16_is_taken_for_float32(client: Any) -> None:
    array = np.array([[1.5, -2.0, 0.0078125]], ml_dtypes.bfloat16)
    found = client.infer("echo_float32", [given("x0", array, "BF16")]).as_numpy("out_x0")
    assert found.tolist() == [[1.5, -2.0, 0.0078125]]


@pytest.mark.parametrize("binary", [True, False])
def test_texts_come_back(client: Any, binary: bool) -> None:
    array = np.array([["", "grüße", "a" * 1000]], dtype=np.object_)
    wanted = [triton.InferRequestedOutput("out_x0", binary_data=binary)]
    asked = [given("x0", array, "BYTES", binary=binary)]
    found = client.infer("simple_identity", asked, outputs=wanted).as_numpy("out_x0")
    assert [t.decode() if binary else t for t in found[0]] == list(array[0])


def test_numbers_in_texts_are_added(client: Any) -> None:
    left = np.array([[str(n) for n in range(16)]], dtype=np.object_)
    result = client.infer("simple_string", simple_inputs(left, left, "BYTES"))
    assert [int(text) for text in result.as_numpy("OUTPUT0")[0]] == [2 * n for n in range(16)]


def test_small_integers_are_added(client: Any) -> None:
    left = LEFT.astype(np.int8)
    result = client.infer("simple_int8", simple_inputs(left, left, "INT8"))
    assert (result.as_numpy("OUTPUT0") == 2 * left).all()


@pytest.mark.parametrize("shape", [(1, 0), (3, 0)])
def test_items_without_elements_come_back(client: Any, shape: tuple[int, int]) -> None:
    result = client.infer("echo_float32", [given("x0", np.zeros(shape, np.float32), "FP32")])
    assert result.as_numpy("out_x0").shape == shape


@pytest.mark.parametrize("binary", [True, False])
def test_the_highest_classes_with_their_places(client: Any, binary: bool) -> None:
    wanted = [triton.InferRequestedOutput("OUTPUT0", binary_data=binary, class_count=3)]
    found = client.infer("simple", simple_inputs(), outputs=wanted).as_numpy("OUTPUT0")
    assert [t.decode() if binary else t for t in found[0]] == ["16:15", "15:14", "14:13"]


def test_a_body_made_and_read_by_the_clients_functions(client: Any, address: str) -> None:
    body, length = triton.InferenceServerClient.generate_request_body(simple_inputs())
    response = requests.post(
        f"http://{address}/v2/models/simple/infer",
        data=body,
        headers={"Inference-Header-Content-Length": str(length)},
        timeout=20,
    )
    result = triton.InferenceServerClient.parse_response_body(
        response.content, header_length=int(response.headers["Inference-Header-Content-Length"])
    )
    assert (result.as_numpy("OUTPUT0") == LEFT + RIGHT).all()


def test_the_repository_is_listed_unloaded_and_loaded(client: Any) -> None:
    rows = {row["name"]: row for row in client.get_model_repository_index()}
    assert rows["doubler"] == {"name": "doubler", "version": "1.0", "state": "READY"}
    client.load_model("doubler")
    assert client.is_model_ready("doubler")
    client.unload_model("doubler", unload_dependents=True)
    assert not client.is_model_ready("doubler")
    rows = {row["name"]: row for row in client.get_model_repository_index()}
    assert rows["doubler"]["state"] == "UNAVAILABLE"
    x = given("x", np.ones((1, 4), np.float32), "FP32")
    with pytest.raises(InferenceServerException, match="'doubler' has no available versions"):
        client.infer("doubler", [x])
    client.load_model("doubler")
    assert (client.infer("doubler", [x]).as_numpy("doubled") == 2).all()
    with pytest.raises(InferenceServerException, match="failed to load 'none'"):
        client.load_model("none")
    with pytest.raises(InferenceServerException, match="failed to load 'doubler'"):
        client.load_model("doubler", files={"file:1/model.onnx": b"any"}, config="{}")


def test_statistics_hold_all_that_the_load_generator_reads(client: Any) -> None:
    client.infer("simple", simple_inputs(np.repeat(LEFT, 3, 0), np.repeat(RIGHT, 3, 0)))
    (row,) = client.get_inference_statistics("simple", "1.0")["model_stats"]
    kinds = {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output"}
    assert row["inference_stats"].keys() == kinds | {"cache_hit", "cache_miss"}
    assert row["inference_count"] >= 3
    assert row["inference_stats"]["success"]["count"] >= 1
    assert row["inference_stats"]["compute_infer"]["ns"] > 0
    names = {row["name"] for row in client.get_inference_statistics()["model_stats"]}
    assert {"simple", "echo_bool"} <= names


def test_what_is_not_announced_is_refused(client: Any) -> None:
    for asked in (
        client.get_system_shared_memory_status,
        lambda: client.register_system_shared_memory("r", "/r", 64),
        client.unregister_system_shared_memory,
        client.get_cuda_shared_memory_status,
        lambda: client.register_cuda_shared_memory("r", b"raw", 0, 64),
        client.unregister_cuda_shared_memory,
    ):
        with pytest.raises(InferenceServerException, match=r"does not support \w+ shared memory"):
            asked()
    extensions = set(client.get_server_metadata()["extensions"])
    assert not extensions & {"schedule_policy", "system_shared_memory", "cuda_shared_memory"}
    assert extensions >= {"logging", "trace", "generate", "sequence", "sequence(string_id)"}


def test_errors_reach_the_client_in_words(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="expected 2 inputs but got 1 inputs") as got:
        client.infer("simple", simple_inputs()[:1])
    assert got.value.status() == "400"
    with pytest.raises(InferenceServerException, match="unexpected inference output 'none'"):
        client.infer("simple", simple_inputs(), outputs=[triton.InferRequestedOutput("none")])
    shared = triton.InferInput("INPUT0", [1, 16], "INT32")
    shared.set_shared_memory("region", 64)
    with pytest.raises(InferenceServerException, match="Unable to find shared memory region"):
        client.infer("simple", [shared, simple_inputs()[1]])


async def test_the_asyncio_client_makes_every_call(address: str) -> None:
    async with triton_aio.InferenceServerClient(address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("simple", "1.0")
        assert "statistics" in (await client.get_server_metadata())["extensions"]
        assert (await client.get_model_metadata("simple"))["name"] == "simple"
        assert (await client.get_model_config("simple"))["max_batch_size"] == 32
        assert len(await client.get_model_repository_index()) >= 17
        await client.unload_model("echo_int16")
        assert not await client.is_model_ready("echo_int16")
        await client.load_model("echo_int16")
        assert await client.is_model_ready("echo_int16")
        assert (await client.get_inference_statistics("simple"))["model_stats"]
        assert (await client.get_log_settings())["log_error"] is True
        assert (await client.get_trace_settings())["trace_level"] == ["OFF"]
        with pytest.raises(InferenceServerException, match="does not support"):
            await client.get_system_shared_memory_status()


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
async def test_the_asyncio_client_infers_side_by_side(address: str, coding: str | None) -> None:
    async with triton_aio.InferenceServerClient(address) as client:
        results = await asyncio.gather(
            *(
                client.infer(
                    "simple",
                    simple_inputs(LEFT * n),
                    request_compression_algorithm=coding,
                    response_compression_algorithm=coding,
                )
                for n in range(20)
            )
        )
    for n, result in enumerate(results):
        assert (result.as_numpy("OUTPUT0") == LEFT * n + RIGHT).all()
