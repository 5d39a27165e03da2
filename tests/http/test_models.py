"""/models: versions, files, commit, load, loss and gradient, aliases."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.http.api import Api
from tests.http.conftest import IN_COMMON, Served
from tests.http.models import (
    OCTETS,
    V,
    classifier,
    commit_classifier,
    commit_doubler,
    doubler,
    metadata,
    repr_digest,
    succeed,
    weights,
)

FILE = V.format("m") + "/files/sub/weights.bin"


async def test_models_are_listed_by_name_in_pages(api: Api) -> None:
    for name in ("a", "b", "c"):
        await succeed(api.post("/register", metadata(name)))
    first = (await api.get("/models?limit=2")).value
    assert ([m["name"] for m in first["models"]], first["next"]) == (["a", "b"], "b")
    rest = (await api.get("/models?after=b&limit=2")).value
    assert ([m["name"] for m in rest["models"]], rest["next"]) == (["c"], None)


async def test_a_model_shows_its_versions_latest_and_aliases(api: Api) -> None:
    await commit_doubler(api, "m")
    await succeed(api.post("/register", {**metadata(), "version": "2.0"}))
    await succeed(api.put("/models/m/aliases/best", {"version": "1.0"}))
    shown = (await api.get("/models/m")).value
    assert shown["latest"] == "1.0"
    assert [(v["version"], v["state"]) for v in shown["versions"]] == [
        ("1.0", "ready"),
        ("2.0", "registered"),
    ]
    assert shown["aliases"] == {"best": "1.0"}


async def test_a_file_comes_back_as_it_went_and_in_ranges(api: Api) -> None:
    await succeed(api.post("/register", metadata()))
    data = bytes(range(256)) * 4
    put = await api.put(FILE, raw=data, headers={**OCTETS, **repr_digest(data)})
    assert (put.status, put.value["path"]) == (201, "sub/weights.bin")
    got = await api.get(FILE)
    assert got.value == data
    assert got.headers["Repr-Digest"] == repr_digest(data)["Repr-Digest"]
    part = await api.get(FILE, headers={"Range": "bytes=10-19"})
    assert (part.status, part.value) == (206, data[10:20])


async def test_a_range_beyond_the_file_is_416(served: Served) -> None:
    await succeed(served.api.post("/register", metadata()))
    await succeed(served.api.put(FILE, raw=b"12345"))
    reply = await served.api.get(FILE, headers={"Range": "bytes=10-19"})
    assert reply.status == 416


async def test_other_bytes_than_announced_are_refused_and_nothing_is_kept(api: Api) -> None:
    await succeed(api.post("/register", metadata()))
    reply = await api.put(FILE, raw=b"other", headers=repr_digest(b"announced"))
    assert (reply.status, reply.code) == (422, "digest_mismatch")
    assert (await api.get(V.format("m"))).value["files"] == []


@pytest.mark.parametrize(
    "digest", ["", "md5=:AAAA:", "sha-256=:AAAA:", "sha-256=abc", "sha-256=:****:", "x" * 4000]
)
async def test_a_digest_that_is_none_is_refused(served: Served, digest: str) -> None:
    await succeed(served.api.post("/register", metadata()))
    reply = await served.api.put(FILE, raw=b"data", headers={"Repr-Digest": digest})
    assert (reply.status, reply.code) == (422, "digest_mismatch")


@IN_COMMON
@pytest.mark.parametrize(
    "label",
    ["..%2fx", "%2e%2e/x", "a/../b", "a//b", "%2fetc%2fpasswd", "a%00b", "a%5cb", "a%0d%0ab"],
)
async def test_a_file_path_that_leads_elsewhere_is_refused(common_api: Api, label: str) -> None:
    import yarl  # noqa: PLC0415

    await succeed(common_api.post("/register", metadata()))
    url = yarl.URL(common_api.url + V.format("m") + "/files/" + label, encoded=True)
    async with common_api.session.put(url, data=b"x") as response:
        assert response.status in (404, 422)
    assert (await common_api.get(V.format("m"))).value["files"] == []


async def test_committing_makes_a_version_immutable(api: Api, tmp_path: Path) -> None:
    data = weights(tmp_path)
    committed = await commit_classifier(api, data)
    assert committed.value["state"] == "ready"
    again = await api.post(V.format("classifier") + "/commit")
    assert (again.status, again.value) == (200, committed.value)
    late = await api.put(V.format("classifier") + "/files/more", raw=b"x")
    assert (late.status, late.code) == (409, "conflict")


async def test_only_what_is_not_committed_is_deleted_where_that_is_asked_for(
    served: Served,
) -> None:
    api, path = served.api, V.format("doubler")
    await succeed(api.post("/register", doubler()))
    wrong = await api.delete(path + "?state=ready")
    assert (wrong.status, wrong.code) == (422, "invalid")
    assert (await api.delete(path + "?state=registered")).status == 204
    assert (await api.get(path)).status == 404
    await commit_doubler(api)
    kept = await api.delete(path + "?state=registered")
    assert (kept.status, kept.code) == (409, "conflict")
    assert (await api.get(path)).value["state"] == "ready"


async def test_committing_without_files_says_what_to_do(api: Api) -> None:
    await succeed(api.post("/register", metadata()))
    reply = await api.post(V.format("m") + "/commit")
    assert (reply.status, reply.code) == (409, "not_ready")
    assert "/files/" in reply.detail


@pytest.mark.parametrize("data", [b"", b"junk", b"\xff" * 4096, (1 << 40).to_bytes(8, "little")])
async def test_a_file_that_is_no_model_is_refused_at_commit(api: Api, data: bytes) -> None:
    await succeed(api.post("/register", classifier("m")))
    await succeed(api.put(V.format("m") + "/files/model.safetensors", raw=data))
    reply = await api.post(V.format("m") + "/commit")
    assert (reply.status, reply.code) == (422, "invalid_artifact")
    assert (await api.get(V.format("m"))).value["state"] != "ready"


async def test_the_same_file_of_two_versions_is_stored_once(served: Served, tmp_path: Path) -> None:
    data = weights(tmp_path)
    await commit_classifier(served.api, data, "one")
    before = served.platform.models._artifacts.nbytes
    await commit_classifier(served.api, data, "two")
    assert served.platform.models._artifacts.nbytes == before


async def test_a_version_is_loaded_pinned_and_unloaded(api: Api) -> None:
    await commit_doubler(api)
    held = await api.post(V.format("doubler") + "/load", {"pin": True})
    assert held.status == 200
    node = (await api.get("/nodes/" + held.value["node"])).value
    assert (node["loaded"], node["pinned"]) == (["doubler:1.0"], ["doubler:1.0"])
    assert (await api.post(V.format("doubler") + "/unload")).status == 204
    assert (await api.get("/nodes/" + held.value["node"])).value["loaded"] == []


async def test_pin_must_be_a_truth_value(api: Api) -> None:
    await commit_doubler(api)
    reply = await api.post(V.format("doubler") + "/load", {"pin": "yes"})
    assert (reply.status, reply.code) == (422, "invalid")


async def test_loss_and_gradients_are_served(api: Api, tmp_path: Path) -> None:
    await commit_classifier(api, weights(tmp_path))
    body = {"inputs": {"x": [[1, 0, 0, 0], [0, 1, 0, 0]]}, "targets": {"label": [0, 2]}}
    loss = await succeed(api.post(V.format("classifier") + "/loss", body))
    assert loss.value["loss"] > 0
    assert "gradients" not in loss.value
    for wrt in ("inputs", "parameters"):
        got = await succeed(api.post(V.format("classifier") + "/gradient", {**body, "wrt": wrt}))
        assert got.value["loss"] == loss.value["loss"]
        assert list(got.value["gradients"]) == [wrt]
    both = await succeed(api.post(V.format("classifier") + "/gradient", body))
    assert both.value["gradients"]["parameters"].keys() >= {"hidden.weight", "hidden.bias"}


BAD_GRADIENTS: list[dict[str, Any]] = [
    {},
    {"inputs": {"x": [[1, 0, 0, 0]]}},
    {"inputs": {"x": [[1, 0, 0, 0]]}, "targets": {"label": [7]}},
    {"inputs": {"x": [[1, 0, 0, 0]]}, "targets": {"label": [-1]}},
    {"inputs": {"x": [[1, 0, 0, 0]]}, "targets": {"label": [0, 1]}},
    {"inputs": {"x": [[1, 0, 0, 0]]}, "targets": {"label": ["a", "b"]}},
    {"inputs": {"x": [[1, 0, 0, 0]]}, "targets": {"label": 0}},
    {"inputs": {"x": [1, 0, 0, 0]}, "targets": {"label": {"a": 1}}},
    {"inputs": {"x": [[1, 0, 0, 0]]}, "targets": {"a/b": [0], "c": [1]}},
    {"inputs": {"x": [[1, 0, 0, 0]]}, "targets": {"label": [0]}, "wrt": "all"},
    {"inputs": {"x": [[1, 0, 0, 0]]}, "targets": {"label": [0]}, "loss": "guess"},
    {"inputs": {"x": [[1, 0, 0, 0]]}, "targets": {"label": [0]}, "output": "nothing"},
    {"inputs": {"x": [[1, 0, 0, 0]]}, "targets": {"label": [0]}, "loss": 5},
    {"inputs": {"x": [[1, 0, 0]]}, "targets": {"label": [0]}},
]


@IN_COMMON
@pytest.mark.parametrize("body", BAD_GRADIENTS)
async def test_wrong_gradient_requests_are_422(
    common_api: Api, tmp_path: Path, body: dict[str, Any]
) -> None:
    if (await common_api.get("/models/classifier")).status == 404:
        await commit_classifier(common_api, weights(tmp_path))
    reply = await common_api.post(V.format("classifier") + "/gradient", body)
    assert reply.status == 422, reply.value


async def test_an_alias_moves_by_compare_and_set(api: Api) -> None:
    await commit_doubler(api, "m")
    alias = "/models/m/aliases/best"
    first = await succeed(api.put(alias, {"version": "1.0"}, headers={"If-None-Match": "*"}))
    assert first.headers["ETag"] == f'"{first.value["revision"]}"'
    lost = await api.put(alias, {"version": "1.0"}, headers={"If-None-Match": "*"})
    assert (lost.status, lost.code) == (412, "precondition")
    moved = {"If-Match": first.headers["ETag"]}
    again = await succeed(api.put(alias, {"version": "1.0"}, headers=moved))
    assert (await api.get(alias)).value == again.value
    assert (await api.delete(alias)).status == 204
    assert (await api.get(alias)).status == 404


@pytest.mark.parametrize("tag", ["", '"x"', "W/1", '"-1"', '"' + "9" * 13 + '"', "٣"])
async def test_an_etag_that_is_none_is_412(served: Served, tag: str) -> None:
    await commit_doubler(served.api, "m")
    headers = {"If-Match": tag}
    reply = await served.api.put("/models/m/aliases/best", {"version": "1.0"}, headers=headers)
    assert (reply.status, reply.code) == (412, "precondition")


async def test_an_alias_can_be_called(api: Api) -> None:
    await commit_doubler(api, "m")
    await succeed(api.put("/models/m/aliases/best", {"version": "1.0"}))
    body = {"model": "m", "version": "best", "inputs": {"x": [1, 2, 3, 4]}}
    assert (await succeed(api.post("/call", body))).value["version"] == "1.0"


@pytest.mark.parametrize("alias", ["latest", "1.0", "A", "a%20b", "..a"])
async def test_an_alias_that_cannot_be_is_refused(api: Api, alias: str) -> None:
    await commit_doubler(api, "m")
    reply = await api.put(f"/models/m/aliases/{alias}", {"version": "1.0"})
    assert reply.status in (409, 422)


@IN_COMMON
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"version": 1.0}, "'version' must be a string, got 1.0"),
        ({"canary": 3}, "canary must be a text, got 3"),
        ({"canary": "1.0", "weight": 2}, "weight must be a number of at most 1.0, got 2"),
        ({"canry": "1.0"}, "has no field 'canry'; fields: canary, weight, shadow"),
    ],
)
async def test_what_an_alias_cannot_share_is_told_in_our_words(
    common_api: Api, body: dict[str, Any], said: str
) -> None:
    reply = await common_api.put("/models/m/aliases/best", {"version": "1.0", **body})
    assert (reply.status, reply.code) == (422, "invalid")
    assert reply.value["detail"].endswith(said)


async def test_deleting_frees_names_nodes_and_files(served: Served, tmp_path: Path) -> None:
    api = served.api
    await commit_classifier(api, weights(tmp_path), "gone")
    await succeed(api.post(V.format("gone") + "/load"))
    assert (await api.delete("/models/gone")).status == 204
    assert (await api.get("/models/gone")).status == 404
    assert served.platform.models._artifacts.nbytes == 0
    assert all(not node.status()["loaded"] for node in served.platform.cluster.nodes.values())
    assert (await api.post("/call", {"x": [1, 2, 3, 4]})).status == 404


async def test_deleting_one_version_leaves_the_others(api: Api) -> None:
    await commit_doubler(api, "m")
    await succeed(api.post("/register", {**metadata(), "version": "2.0"}))
    assert (await api.delete("/models/m/versions/2.0")).status == 204
    assert [v["version"] for v in (await api.get("/models/m")).value["versions"]] == ["1.0"]


async def test_a_damaged_file_is_told_and_not_sent(served: Served, tmp_path: Path) -> None:
    api = served.api
    await commit_classifier(api, weights(tmp_path), "m")
    record = served.platform.models.catalog.version("m", "1.0")
    (await served.platform.models.path_of(record.files[0])).unlink()
    reply = await api.get(V.format("m") + "/files/model.safetensors")
    assert (reply.status, reply.code) == (409, "corrupt")
    called = await api.post("/call", {"model": "m", "inputs": {"x": [1, 2, 3, 4]}})
    assert (called.status, called.code) == (409, "corrupt")


async def test_tensors_come_in_every_spelling(served: Served) -> None:
    api = served.api
    await commit_doubler(api)
    x = np.arange(4, dtype="<f4")
    plain = {"dtype": "float32", "shape": [4], "data": base64.b64encode(x.tobytes()).decode()}
    reply = await api.post("/call", {"x": plain})
    assert reply.value["outputs"]["doubled"] == [0, 2, 4, 6]
