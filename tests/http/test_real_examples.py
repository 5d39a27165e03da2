"""What the public examples of the reference server's clients assert, of its seven models."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.http.exampleserver import example_server

pytestmark = pytest.mark.real

VALUES: Final = [11, 7, 5, 3, 2, 0, 1]
LEFT: Final = np.arange(16, dtype=np.int32)
RIGHT: Final = np.ones(16, np.int32)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the seven models and nothing else."""
    with example_server(tmp_path_factory.mktemp("examples")) as running:
        yield running.url.removeprefix("http://")


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with triton.InferenceServerClient(address, concurrency=8) as made:
        yield made


def tensor(name: str, array: Any, datatype: str = "INT32", *, binary: bool = True) -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    return made.set_data_from_numpy(array, binary_data=binary)


def outputs(binary: tuple[bool, bool] = (True, False)) -> list[Any]:
    names = ("OUTPUT0", "OUTPUT1")
    return [
        triton.InferRequestedOutput(n, binary_data=b) for n, b in zip(names, binary, strict=True)
    ]


def check_sums(result: Any, left: Any = LEFT, right: Any = RIGHT) -> None:
    assert (result.as_numpy("OUTPUT0")[0] == left + right).all()
    assert (result.as_numpy("OUTPUT1")[0] == left - right).all()


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_infer(client: Any, coding: str | None) -> None:
    given = [tensor("INPUT0", LEFT[None], binary=False), tensor("INPUT1", RIGHT[None])]
    codings = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
    for asked in (outputs(), None):
        check_sums(client.infer("simple", given, outputs=asked, query_params={"a": 1}, **codings))
    (row,) = client.get_inference_statistics("simple")["model_stats"]
    assert (row["name"], row["version"]) == ("simple", "1")
    with pytest.raises(InferenceServerException, match="Request for unknown model"):
        client.get_inference_statistics("wrong_model_name")


def test_async_infer(client: Any) -> None:
    given = [tensor("INPUT0", LEFT[None], binary=False), tensor("INPUT1", RIGHT[None])]
    for asked in [client.async_infer("simple", given, outputs=outputs()) for _ in range(8)]:
        check_sums(asked.get_result())


def test_infer_int8(client: Any) -> None:
    left, right = LEFT.astype(np.int8), RIGHT.astype(np.int8)
    given = [tensor("INPUT0", left[None], "INT8"), tensor("INPUT1", right[None], "INT8")]
    check_sums(client.infer("simple_int8", given), left, right)


@pytest.mark.parametrize("binary", [(True, True), (False, False), (True, False)])
def test_string_infer(client: Any, binary: tuple[bool, bool]) -> None:
    left, right = (np.array([[str(n) for n in a]], np.object_) for a in (LEFT, RIGHT))
    given = [
        tensor("INPUT0", left, "BYTES", binary=binary[0]),
        tensor("INPUT1", right, "BYTES", binary=binary[1]),
    ]
    result = client.infer("simple_string", given, outputs=outputs((True, True)))
    assert [int(text) for text in result.as_numpy("OUTPUT0")[0]] == list(LEFT + RIGHT)
    assert [int(text) for text in result.as_numpy("OUTPUT1")[0]] == list(LEFT - RIGHT)
    texts = np.array([["", "a", "grüße"]], np.object_)
    given = [tensor("INPUT0", texts, "BYTES", binary=binary[0])]
    found = client.infer("simple_identity", given).as_numpy("OUTPUT0")
    assert [text.decode() for text in found[0]] == list(texts[0])


def test_inputs_and_outputs_are_used_again(client: Any) -> None:
    given = [triton.InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
    asked = [triton.InferRequestedOutput(name) for name in ("OUTPUT0", "OUTPUT1")]
    for factor in (1, 2, 1):
        given[0].set_data_from_numpy(LEFT[None])
        given[1].set_data_from_numpy(factor * RIGHT[None])
        check_sums(client.infer("simple", given, outputs=asked), LEFT, factor * RIGHT)


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live(query_params={"test_1": 1, "test_2": 2})
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    assert client.get_model_metadata("simple")["versions"] == ["1"]
    with pytest.raises(InferenceServerException, match="Request for unknown model"):
        client.get_model_metadata("wrong_model_name")


def test_model_control(client: Any) -> None:
    assert len(client.get_model_repository_index()) == 7
    client.load_model("simple")
    assert client.is_model_ready("simple")
    with pytest.raises(InferenceServerException, match="failed to load"):
        client.load_model("simple", config='"parameters": {"config": {{"max_batch_size": "16"}}}')
    client.load_model("simple", config='{"max_batch_size":"16"}')
    assert client.get_model_config("simple")["max_batch_size"] == 16
    client.unload_model("simple")
    assert not client.is_model_ready("simple")
    with pytest.raises(InferenceServerException, match="failed to load"):
        client.load_model("wrong_model_name")
    client.load_model("simple")
    assert client.get_model_config("simple")["max_batch_size"] == 8


def sequences(dyna: bool) -> list[tuple[str, int | str, list[int]]]:
    """Model, sequence and inputs, as the examples have them."""
    numbers = "simple_dyna_sequence" if dyna else "simple_sequence"
    texts = "simple_string_dyna_sequence" if dyna else "simple_sequence"
    named = "1002" if dyna else str(uuid.uuid4())
    return [
        (numbers, 1000, [0, *VALUES]),
        (numbers, 1001, [100, *(-value for value in VALUES)]),
        (texts, named, [20, *(-value for value in VALUES)]),
    ]


def expected(dyna: bool) -> list[list[int]]:
    """Their outputs. Of the two dyna models only the one with texts for ids accumulates."""
    first = [1, *VALUES]
    second = [101, *(-value for value in VALUES)]
    if not dyna:
        return [first, second, [21, *(-value for value in VALUES)]]
    first[-1] += 1000
    second[-1] += 1001
    sums = [20 - sum(VALUES[:n]) for n in range(len(VALUES) + 1)]
    sums[-1] += 1002
    return [first, second, sums]


def terms(sequence: int | str, at: int, values: list[int]) -> dict[str, Any]:
    return {
        "sequence_id": sequence,
        "sequence_start": at == 0,
        "sequence_end": at == len(values) - 1,
    }


@pytest.mark.parametrize("dyna", [False, True])
def test_sequences(client: Any, dyna: bool) -> None:
    found = []
    for model, sequence, values in sequences(dyna):
        found.append(
            [
                client.infer(
                    model,
                    [tensor("INPUT", np.full((1, 1), value, np.int32))],
                    outputs=[triton.InferRequestedOutput("OUTPUT")],
                    **terms(sequence, at, values),
                ).as_numpy("OUTPUT")[0][0]
                for at, value in enumerate(values)
            ]
        )
    assert found == expected(dyna)


@pytest.mark.parametrize("dyna", [False, True])
async def test_sequences_side_by_side_without_waiting_for_answers(address: str, dyna: bool) -> None:
    async def run(client: Any, model: str, sequence: int | str, values: list[int]) -> list[int]:
        asked = [
            client.infer(
                model,
                [tensor("INPUT", np.full((1, 1), value, np.int32))],
                **terms(sequence, at, values),
            )
            for at, value in enumerate(values)
        ]
        return [(await one).as_numpy("OUTPUT")[0][0] for one in asked]

    async with triton_aio.InferenceServerClient(address) as client:
        found = await asyncio.gather(*(run(client, *each) for each in sequences(dyna)))
        check_sums(
            await client.infer(
                "simple", [tensor("INPUT0", LEFT[None]), tensor("INPUT1", RIGHT[None])]
            )
        )
    assert found == expected(dyna)


def test_a_sequence_begins_with_its_start(client: Any) -> None:
    given = [tensor("INPUT", np.ones((1, 1), np.int32))]
    ask: Callable[..., Any] = lambda **more: client.infer("simple_sequence", given, **more)  # noqa: E731
    with pytest.raises(InferenceServerException) as caught:
        ask(sequence_id=77)
    assert caught.value.message() == (
        "inference request for sequence 77 to model 'simple_sequence' must specify the START flag "
        "on the first request of the sequence"
    )
    with pytest.raises(InferenceServerException, match="must specify a non-zero or non-empty"):
        ask()
    with pytest.raises(InferenceServerException, match="takes uint64 sequence ids, got 'x'"):
        client.infer("simple_dyna_sequence", given, sequence_id="x", sequence_start=True)


def test_log_settings(client: Any) -> None:
    assert client.get_log_settings()["log_format"] == "default"
    found = client.update_log_settings({"log_verbose_level": 1, "log_format": "ISO8601"})
    assert (found["log_verbose_level"], found["log_format"]) == (1, "ISO8601")
    with pytest.raises(InferenceServerException, match="log file location can not be updated"):
        client.update_log_settings({"log_file": "/etc/passwd"})


def test_trace_settings(client: Any) -> None:
    found = client.update_trace_settings(
        settings={"trace_level": ["TIMESTAMPS"], "trace_rate": "5"}
    )
    assert (found["trace_level"], found["trace_rate"]) == (["TIMESTAMPS"], "5")
    assert client.update_trace_settings("simple", {"trace_rate": "7"})["trace_rate"] == "7"
    assert client.get_trace_settings("simple")["trace_level"] == ["TIMESTAMPS"]
    assert client.update_trace_settings("simple", {"trace_rate": None})["trace_rate"] == "5"
    with pytest.raises(InferenceServerException, match="trace file location can not be updated"):
        client.update_trace_settings(settings={"trace_file": "/etc/passwd"})
    found = client.update_trace_settings(settings={"trace_level": None, "trace_rate": None})
    assert (found["trace_level"], found["trace_rate"]) == (["OFF"], "1000")
