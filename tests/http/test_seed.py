"""POST /register, /discover, /call: what the contract promises, in both encodings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiaas_async.wire.codecs import MSGPACK
from tests.http.api import Api
from tests.http.conftest import IN_COMMON, Served
from tests.http.models import (
    OCTETS,
    V,
    classifier,
    commit_doubler,
    doubler,
    repr_digest,
    succeed,
    weights,
)
from tests.runtimes.artifacts import network, params, rows

SEED: dict[str, Any] = {
    "name": "image_classifier",
    "version": "1.0",
    "inputs": ["image"],
    "outputs": ["label"],
    "resources": {"cpu": 4, "memory": 16},
}


async def test_registering_answers_the_stored_metadata(api: Api) -> None:
    reply = await api.post("/register", SEED)
    assert reply.status == 200
    assert {field: reply.value[field] for field in SEED} == SEED


async def test_registering_the_same_again_is_fine_and_other_metadata_conflicts(api: Api) -> None:
    first = await api.post("/register", SEED)
    again = await api.post("/register", SEED)
    assert (again.status, again.value) == (200, first.value)
    other = await api.post("/register", {**SEED, "inputs": ["picture"]})
    assert (other.status, other.code) == (409, "conflict")


async def test_discovering_answers_the_metadata_itself_and_ranked_matches(api: Api) -> None:
    await api.post("/register", SEED)
    reply = await api.post("/discover", {"name": "image_classifier", "version": "1.0"})
    assert reply.status == 200
    assert {field: reply.value[field] for field in SEED} == SEED
    (match,) = reply.value["matches"]
    assert (match["name"], match["version"]) == ("image_classifier", "1.0")
    assert isinstance(match["score"], float)


async def test_discovering_in_vain_says_which_condition_failed(api: Api) -> None:
    await api.post("/register", SEED)
    reply = await api.post("/discover", {"inputs": ["image"], "resources": {"cpu": 1}})
    assert (reply.status, reply.code) == (404, "no_match")
    (miss,) = reply.value["details"]["near_misses"]
    assert "cpu" in str(miss)


async def test_a_query_with_an_unknown_field_is_refused_with_a_hint(api: Api) -> None:
    reply = await api.post("/discover", {"nmae": "x"})
    assert (reply.status, reply.code) == (422, "invalid")
    assert "name" in reply.detail


async def test_calling_before_the_artifact_says_what_to_do(api: Api) -> None:
    await api.post("/register", SEED)
    reply = await api.post("/call", {"image": [[0.0]]})
    assert (reply.status, reply.code) == (409, "not_ready")
    assert "/models/image_classifier/versions/1.0/files/" in reply.detail


async def test_the_whole_sequence_gives_a_label(api: Api, tmp_path: Path) -> None:
    data = weights(tmp_path)
    await succeed(api.post("/register", classifier()))
    path, headers = V.format("classifier") + "/files/model.safetensors", repr_digest(data)
    reply = await api.put(path, raw=data, headers={**OCTETS, **headers})
    assert (reply.status, reply.value["size"]) == (201, len(data))
    assert (await api.post(V.format("classifier") + "/commit")).value["state"] == "ready"
    x = rows(1)[0]
    answer = await api.post("/call", {"model": "classifier", "inputs": {"x": x.tolist()}})
    assert answer.status == 200
    expected = network().predict(params(), {"x": x[None]}, None)
    assert answer.value["outputs"]["label"] == expected["label"][0]
    assert (answer.value["model"], answer.value["version"]) == ("classifier", "1.0")
    timing = answer.value["timing"]
    assert timing.keys() == {"queue_us", "compute_us", "batch_size", "node"}


async def test_just_the_inputs_find_the_model_by_their_names(api: Api) -> None:
    await commit_doubler(api)
    reply = await api.post("/call", {"x": [1, 2, 3, 4]})
    assert reply.status == 200
    assert reply.value["model"] == "doubler"


@pytest.mark.parametrize("model", ["", ":1.0"])
async def test_an_empty_model_is_no_wish_for_any_model(api: Api, model: str) -> None:
    await commit_doubler(api)
    reply = await api.post("/call", {"model": model, "inputs": {"x": [1.0, 2.0]}})
    assert (reply.status, reply.code) == (422, "invalid_name")
    assert reply.detail == f"model {model!r} has no name: give NAME, NAME:VERSION or NAME:ALIAS"


async def test_a_colon_without_a_version_is_refused(api: Api) -> None:
    reply = await api.post("/call", {"model": "doubler:", "inputs": {"x": [1.0]}})
    assert (reply.status, reply.code) == (422, "invalid_name")
    assert "'doubler:' has no version" in reply.detail


async def test_a_model_named_in_the_query_is_not_passed_over(api: Api) -> None:
    await commit_doubler(api)
    reply = await api.post("/call?model=other", {"x": [1, 2, 3, 4]})
    assert (reply.status, reply.code) == (422, "invalid")
    assert "/call takes no query, got 'model=other'" in reply.detail


async def test_an_ambiguous_call_names_the_candidates(api: Api) -> None:
    await commit_doubler(api, "one")
    await commit_doubler(api, "two")
    reply = await api.post("/call", {"x": [1, 2, 3, 4]})
    assert (reply.status, reply.code) == (409, "ambiguous")
    assert reply.value["details"]["candidates"] == ["one:1.0", "two:1.0"]


async def test_an_item_gives_an_item_and_a_batch_gives_a_batch(served: Served) -> None:
    api = served.api
    await commit_doubler(api)
    one = await api.post("/call", {"x": [1, 2, 3, 4]})
    assert one.value["outputs"]["doubled"] == [2, 4, 6, 8]
    two = await api.post("/call", {"x": [[1, 2, 3, 4], [0, 0, 0, 1]]})
    assert two.value["outputs"]["doubled"] == [[2, 4, 6, 8], [0, 0, 0, 2]]


async def test_accept_decides_the_encoding_of_the_answer(api: Api) -> None:
    await commit_doubler(api)
    body = {"x": [1, 2, 3, 4]}
    as_json = await api.post("/call", body, headers={"Accept": "application/json"})
    assert as_json.value["outputs"]["doubled"] == [2, 4, 6, 8]
    packed = await api.post("/call", body, headers={"Accept": "application/msgpack"})
    tensor = packed.value["outputs"]["doubled"]
    assert (tensor["dtype"], tensor["shape"]) == ("float32", [4])
    assert np.frombuffer(tensor["data"], "<f4").tolist() == [2, 4, 6, 8]


async def test_the_answer_follows_the_request_when_accept_says_nothing(api: Api) -> None:
    reply = await api.post("/register", SEED, headers={"Accept": "*/*"})
    assert reply.headers["Content-Type"].startswith(api.codec.content_type)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("missing", {"model": "doubler", "inputs": {}}, "x: float32 [4]"),
    ("extra", {"model": "doubler", "inputs": {"x": [1, 2, 3, 4], "z": 1}}, "'z'"),
    ("short", {"model": "doubler", "inputs": {"x": [1, 2, 3]}}, "float32 [4]"),
    ("deep", {"model": "doubler", "inputs": {"x": [[[1, 2, 3, 4]]]}}, "[1, 1, 4]"),
    ("ragged", {"model": "doubler", "inputs": {"x": [[1, 2], [3]]}}, "[1] has 1"),
    ("texts", {"model": "doubler", "inputs": {"x": ["a", "b", "c", "d"]}}, "float32"),
    ("mixed", {"model": "doubler", "inputs": {"x": [1, "b", 2, 3]}}, "x"),
    ("null", {"model": "doubler", "inputs": {"x": None}}, "'x'"),
    ("object", {"model": "doubler", "inputs": {"x": {"a": 1}}}, "'x'"),
    ("no items", {"model": "doubler", "inputs": {"x": []}}, "x"),
    ("unknown field", {"model": "doubler", "inputs": {"x": [1]}, "speed": 9}, "'speed'"),
    ("unknown output", {"model": "doubler", "inputs": {"x": [1] * 4}, "outputs": ["q"]}, "'q'"),
    ("model of a wrong type", {"model": 7, "inputs": {"x": [1] * 4}}, "'model'"),
    ("no time", {"model": "doubler", "inputs": {"x": [1] * 4}, "timeout_ms": 0}, "timeout_ms"),
    ("time as text", {"model": "doubler", "inputs": {"x": [1] * 4}, "timeout_ms": "soon"}, "soon"),
]


@IN_COMMON
@pytest.mark.parametrize(("body", "told"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
async def test_wrong_inputs_are_422_and_say_what_was_expected(
    common_api: Api, body: dict[str, Any], told: str
) -> None:
    await commit_doubler(common_api)
    reply = await common_api.post("/call", body)
    assert reply.status == 422
    assert told in reply.detail


async def test_nan_and_infinity_are_refused_with_their_place(served: Served) -> None:
    for value in (math.nan, math.inf, -math.inf):
        api = served.speaking(MSGPACK)
        await commit_doubler(api)
        x = np.array([[0, 0, 0, 0], [0, 0, value, 0]], np.float32)
        reply = await api.post("/call", {"x": x})
        assert (reply.status, reply.code) == (422, "invalid_input")
        assert "[1, 2]" in reply.detail


async def test_a_version_may_allow_nan(served: Served) -> None:
    api = served.speaking(MSGPACK)
    await commit_doubler(api, allow_nonfinite=True)
    reply = await api.post("/call", {"x": np.array([np.nan, 0, np.inf, 1], np.float32)})
    doubled = np.frombuffer(reply.value["outputs"]["doubled"]["data"], "<f4")
    np.testing.assert_array_equal(doubled, [np.nan, 0, np.inf, 2])


async def test_json_has_no_nan(served: Served) -> None:
    await commit_doubler(served.api)
    reply = await served.api.post("/call", raw=b'{"x": [NaN, 0, 0, 0]}')
    assert (reply.status, reply.code) == (400, "malformed")


async def test_an_unknown_model_or_version_is_404(api: Api) -> None:
    await commit_doubler(api)
    for model, version in (("nobody", "1.0"), ("doubler", "9.9"), ("../etc", "1.0")):
        body = {"model": model, "version": version, "inputs": {"x": [1, 2, 3, 4]}}
        reply = await api.post("/call", body)
        assert (reply.status, reply.code) == (404, "not_found")


@IN_COMMON
@pytest.mark.parametrize(
    "name", ["", "A", "-a", "a/b", "a..b", "../x", "a b", "é", "a" * 65, "a\n"]
)
async def test_a_name_outside_the_pattern_is_refused(common_api: Api, name: str) -> None:
    reply = await common_api.post("/register", {**SEED, "name": name})
    assert (reply.status, reply.code) == (422, "invalid_name")


@IN_COMMON
@pytest.mark.parametrize("version", ["", "latest", "a/b", " 1", "1\n", "x" * 65])
async def test_a_version_that_cannot_be_is_refused(common_api: Api, version: str) -> None:
    reply = await common_api.post("/register", {**SEED, "version": version})
    assert (reply.status, reply.code) == (422, "invalid_name")


async def test_the_signature_registered_must_be_the_artifacts(api: Api) -> None:
    await api.post("/register", {**doubler(), "inputs": [{"name": "x", "dtype": "int64"}]})
    reply = await api.post(V.format("doubler") + "/commit")
    assert reply.status in (409, 422)
    assert "x" in reply.detail


async def test_a_key_picks_the_node_that_the_ring_says(api: Api) -> None:
    await commit_doubler(api)
    for key in ("alice", "bob", "carol", "dave"):
        owner = (await api.get(f"/ring?key={key}")).value["owner"]
        reply = await api.post("/call", {"inputs": {"x": [1, 2, 3, 4]}, "key": key})
        assert reply.value["timing"]["node"] == owner


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "float32", "shape": [1], "data": bytes(4)},
        {"nd": True, "type": "<f4", "shape": [1], "data": bytes(4)},
    ],
    ids=["ours", "msgpack-numpy"],
)
async def test_a_tensor_that_is_called_inputs_is_an_input(
    served: Served, tensor: dict[str, Any]
) -> None:
    reply = await served.speaking(MSGPACK).post("/call", {"inputs": tensor})
    assert (reply.status, reply.code) == (404, "no_match")
    assert "'inputs'" in reply.detail
