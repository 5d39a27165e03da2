"""Sequences over the Open Inference Protocol: in order, on one node, never in a batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from aiaas_async.errors import InputError, OverloadedError
from aiaas_async.node.node import Node
from aiaas_async.service import sequences
from aiaas_async.service.calls import CallRequest
from tests.http.conftest import Served
from tests.http.examples import EXAMPLES, RUNTIMES, stateful
from tests.http.models import succeed
from tests.http.v2asking import Answer, ask
from tests.http.v2server import serving

NAME = "simple_string_dyna_sequence"


@pytest_asyncio.fixture
async def summing(scratch: Path) -> AsyncIterator[Served]:
    async with serving(scratch, RUNTIMES, *EXAMPLES[-3:]) as served:
        yield served


async def add(
    served: Served, value: int, sequence: int | str, model: str = NAME, /, **more: Any
) -> Answer:
    given = {"name": "INPUT", "datatype": "INT32", "shape": [1, 1], "data": [value]}
    body = {"inputs": [given], "parameters": {"sequence_id": sequence, **more}}
    return await ask(served, "POST", f"/v2/models/{model}/infer", body)


def value_of(answer: Answer) -> int:
    assert answer.status == 200, answer.value
    found: int = answer.value["outputs"][0]["data"][0]
    return found


async def test_calls_that_come_at_once_are_answered_one_after_the_other(summing: Served) -> None:
    # Of calls on different connections nobody can say which comes first: the ends are waited for.
    assert value_of(await add(summing, 1, "5", sequence_start=True)) == 1
    answers = await asyncio.gather(*(add(summing, 1, "5") for _ in range(18)))
    assert sorted(map(value_of, answers)) == [*range(2, 20)]
    assert value_of(await add(summing, 1, "5", sequence_end=True)) == 25


async def test_many_sequences_keep_apart_and_on_their_nodes(summing: Served) -> None:
    async def run(sequence: int) -> list[int]:
        found = [value_of(await add(summing, sequence, sequence, sequence_start=True))]
        found += [value_of(await add(summing, sequence, sequence)) for _ in range(3)]
        return [*found, value_of(await add(summing, 0, sequence, sequence_end=True))]

    found = await asyncio.gather(*(run(n) for n in range(1, 20)))
    assert found == [[n, 2 * n, 3 * n, 4 * n, 5 * n] for n in range(1, 20)]
    assert len(summing.platform.calls.sequences) == 0


async def test_a_start_begins_anew_and_an_end_is_the_last(summing: Served) -> None:
    assert value_of(await add(summing, 4, "7", sequence_start=True)) == 4
    assert value_of(await add(summing, 2, "7", sequence_start=True)) == 2
    assert value_of(await add(summing, 1, "7", sequence_end=True)) == 10
    answer = await add(summing, 1, "7")
    assert (answer.status, answer.error) == (
        400,
        f"inference request for sequence 7 to model '{NAME}' must specify the START flag on the "
        "first request of the sequence",
    )


async def test_a_sequence_whose_node_left_is_begun_on_another_at_once(summing: Served) -> None:
    platform = summing.platform
    assert value_of(await add(summing, 4, "7", sequence_start=True)) == 4
    metrics = (await summing.api.get("/metrics")).value.decode()
    assert "\naiaas_sequences 1" in metrics
    (known,) = platform.calls.sequences._known.values()
    assert known.seat is not None
    await platform.membership.leave(known.seat[0].id)
    answer = await add(summing, 1, "7")
    assert (answer.status, "start it again" in answer.error) == (503, True)
    assert value_of(await add(summing, 2, "7", sequence_start=True)) == 2
    assert value_of(await add(summing, 3, "7", sequence_end=True)) == 12


async def test_a_state_that_died_with_its_worker_is_not_answered_from_nothing(
    summing: Served,
) -> None:
    assert value_of(await add(summing, 4, "7", sequence_start=True)) == 4
    for node in summing.platform.cluster.nodes.values():
        worker = node._seat._worker
        assert worker is not None
        worker.kill()
    answer = await add(summing, 1, "7")
    assert answer.status in (400, 503)  # the runtime knows nothing of it, or the server says so
    assert (await add(summing, 1, "7")).status == 400
    assert value_of(await add(summing, 3, "7", sequence_start=True)) == 3


async def test_a_version_reloaded_in_between_has_lost_its_sequences(summing: Served) -> None:
    async def marked(value: int, **mark: Any) -> Answer:
        given = {"name": "INPUT", "datatype": "INT32", "shape": [1, 1], "data": [value]}
        body = {"inputs": [given], "parameters": {"sequence_id": 9, **mark}}
        return await ask(summing, "POST", "/v2/models/simple_sequence/infer", body)

    assert value_of(await marked(1, sequence_start=True)) == 2
    await ask(summing, "POST", "/v2/repository/models/simple_sequence/unload")
    await ask(summing, "POST", "/v2/repository/models/simple_sequence/load")
    answer = await marked(1)
    assert answer.status == 503
    assert "was lost with its worker; start it again" in answer.error


async def test_idle_sequences_are_forgotten(
    summing: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert value_of(await add(summing, 4, "7", sequence_start=True)) == 4
    monkeypatch.setattr(sequences, "IDLE_S", -1.0)
    assert (await add(summing, 1, "7")).status == 400
    assert len(summing.platform.calls.sequences) == 0


async def test_sequences_and_those_who_wait_are_bounded(
    summing: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequences, "MAX_SEQUENCES", 1)
    assert value_of(await add(summing, 4, "7", sequence_start=True)) == 4
    assert (await add(summing, 4, "8", sequence_start=True)).status == 503
    monkeypatch.setattr(sequences, "MAX_WAITING", 0)
    assert (await add(summing, 4, "7")).status == 503


async def test_inputs_that_tell_of_sequences_are_not_asked_of_the_caller(summing: Served) -> None:
    path = "/v2/models/simple_dyna_sequence"
    metadata = (await ask(summing, "GET", path)).value
    assert [one["name"] for one in metadata["inputs"]] == ["INPUT"]
    config = (await ask(summing, "GET", f"{path}/config")).value
    assert [one["name"] for one in config["input"]] == ["INPUT"]
    assert "dynamic_batching" not in config
    kinds = [one["control"][0]["kind"] for one in config["sequence_batching"]["control_input"]]
    assert kinds == [
        "CONTROL_SEQUENCE_CORRID",
        "CONTROL_SEQUENCE_START",
        "CONTROL_SEQUENCE_END",
    ]


async def test_other_surfaces_give_them_as_inputs(summing: Served) -> None:
    calls = summing.platform.calls

    async def call(value: int, start: bool, sequence: str = "a") -> Any:
        inputs = {
            "INPUT": [value],
            "sequence_id": sequence,
            "sequence_start": start,
            "sequence_end": False,
        }
        return (await calls.call(CallRequest(inputs, NAME))).outputs["OUTPUT"].tolist()

    assert await call(2, True) == [2]
    assert await call(3, False) == [5]
    with pytest.raises(InputError, match="is no sequence"):
        await call(3, True, "")
    rows = {
        "INPUT": [[1], [2]],
        "sequence_id": ["a", "b"],
        "sequence_start": [True, True],
        "sequence_end": [False, False],
    }
    with pytest.raises(InputError, match="must have one sequence_id"):
        await calls.call(CallRequest(rows, NAME))


async def test_a_deadline_says_whether_it_passed_before_a_calls_turn_or_in_it(
    summing: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert value_of(await add(summing, 4, "7", sequence_start=True)) == 4
    (known,) = summing.platform.calls.sequences._known.values()
    async with known.turn:
        before = await add(summing, 1, "7", timeout=20_000)
    assert (before.status, "before this one" in before.error) == (503, True)
    submit = Node.submit

    def slow(*asked: Any) -> Any:
        item = submit(*asked)
        item.expire()
        return item

    with monkeypatch.context() as patch:
        # Where the call before took over 2 ms, as on a busy machine, this one would leave at once.
        patch.setattr(Node, "_worker_for", lambda *_: None)
        patch.setattr(Node, "submit", slow)
        own = await add(summing, 1, "7")
    assert (own.status, "not answered within" in own.error) == (503, True)
    assert value_of(await add(summing, 1, "7")) == 5


async def test_a_call_whose_time_ends_while_it_is_computed_ends_its_sequence(
    summing: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves the state on, or not: nobody will tell, so no call may build on it."""
    assert value_of(await add(summing, 4, "7", sequence_start=True)) == 4
    send = Node._send

    def late(node: Node, batch: Any, worker: Any) -> None:
        for item in batch.items:
            item.expire()
        send(node, batch, worker)

    for mark in ({}, {"sequence_start": True}):
        with monkeypatch.context() as patch:
            patch.setattr(Node, "_send", late)
            own = await add(summing, 1, "7", **mark)
        assert own.status == 503
        assert own.error.startswith("the time of this call of sequence '7' ended while it was ")
        assert own.error.endswith("the sequence is over; start it again")
        assert (await add(summing, 1, "7")).status == 400
        assert value_of(await add(summing, 4, "7", sequence_start=True)) == 4
        assert value_of(await add(summing, 2, "7")) == 6


async def test_a_caller_who_leaves_a_call_that_is_computed_ends_its_sequence(
    summing: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"INPUT": [4], "sequence_id": "7", "sequence_start": True, "sequence_end": False}
    await summing.platform.calls.call(CallRequest(inputs, NAME))
    inputs["sequence_start"] = False
    submit, call = Node._submit, summing.platform.calls.call(CallRequest(inputs, NAME))
    leaving = asyncio.ensure_future(call)

    def gone(node: Node, *given: Any) -> Any:
        leaving.cancel()
        return submit(node, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Node, "_submit", gone)
        await asyncio.wait([leaving])
    assert leaving.cancelled()
    with pytest.raises(InputError, match="must specify the START flag"):
        await summing.platform.calls.call(CallRequest(inputs, NAME))


async def test_a_full_mailbox_is_no_end_of_a_sequence(
    summing: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert value_of(await add(summing, 4, "7", sequence_start=True)) == 4

    def full(*_: Any, **__: Any) -> None:
        raise OverloadedError("full")

    with monkeypatch.context() as patch:
        patch.setattr(Node, "submit", full)
        assert (await add(summing, 1, "7")).status == 503
    assert value_of(await add(summing, 1, "7")) == 5


async def test_a_shadow_gets_no_copies_of_sequences(scratch: Path) -> None:
    first = stateful(NAME, "accumulator", "string")
    async with serving(scratch, RUNTIMES, first, {**first, "version": "2"}, nodes=1) as served:
        alias = {"version": first["version"], "shadow": "2"}
        assert (await served.api.put(f"/models/{NAME}/aliases/live", alias)).status == 200

        async def total(version: str, value: int, *, start: bool) -> int:
            marks = {"sequence_id": "7", "sequence_start": start, "sequence_end": False}
            call = CallRequest({"INPUT": [value], **marks}, NAME, version)
            found: int = (await served.platform.calls.call(call)).outputs["OUTPUT"].tolist()[0]
            return found

        assert await total("2", 1, start=True) == 1
        assert await total("live", 100, start=True) == 100
        assert await total("live", 100, start=False) == 200
        assert await total("2", 1, start=False) == 2


@pytest.mark.parametrize("key", [None, ""], ids=["no key", "an empty key"])
async def test_a_canary_gets_whole_sequences(scratch: Path, key: str | None) -> None:
    first = stateful(NAME, "accumulator", "string")
    async with serving(scratch, RUNTIMES, first, {**first, "version": "2"}, nodes=1) as served:
        alias = {"version": first["version"], "canary": "2", "weight": 0.5}
        await succeed(served.api.put(f"/models/{NAME}/aliases/live", alias))

        async def called(sequence: str, value: int) -> tuple[str, int]:
            marks = {"sequence_id": sequence, "sequence_start": value == 1, "sequence_end": False}
            call = CallRequest({"INPUT": [value], **marks}, NAME, "live", key)
            answer = await served.platform.calls.call(call)
            return answer.version, answer.outputs["OUTPUT"].tolist()[0]

        versions = set()
        for sequence in map(str, range(1, 20)):
            answers = [await called(sequence, value) for value in (1, 2, 3)]
            assert [total for _, total in answers] == [1, 3, 6]
            (version,) = {version for version, _ in answers}
            by_protocol = await add(served, 4, sequence, f"{NAME}/versions/live")
            assert (by_protocol.value["model_version"], value_of(by_protocol)) == (version, 10)
            versions.add(version)
        assert versions == {first["version"], "2"}


async def test_a_canary_leaves_it_to_its_version_to_refuse_what_is_no_sequence(
    scratch: Path,
) -> None:
    first = stateful(NAME, "accumulator", "string")
    async with serving(scratch, RUNTIMES, first, {**first, "version": "2"}, nodes=1) as served:
        alias = {"version": first["version"], "canary": "2", "weight": 0.5}
        await succeed(served.api.put(f"/models/{NAME}/aliases/live", alias))
        inputs = {"INPUT": [1], "sequence_start": True, "sequence_end": False}
        for wrong in ({}, {"sequence_id": [1, 2]}, {"sequence_id": {"no": "tensor"}}):
            call = CallRequest({**inputs, **wrong}, NAME, "live")
            with pytest.raises(InputError, match="sequence_id"):
                await served.platform.calls.call(call)
