"""/openapi.json: what it says of replies is what comes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiaas_async.deploy.plan import PlanRequest
from aiaas_async.http import open_inference, seed
from aiaas_async.http.app import ROUTES
from aiaas_async.http.openapi import BODIES, REPLIES
from aiaas_async.http.schemas import Call, Deploying
from aiaas_async.service import deploymentspec
from tests.http.api import Api, Reply
from tests.http.conftest import Served
from tests.http.models import V, commit_classifier, commit_doubler, doubler, succeed, weights
from tests.http.v2asking import ask
from tests.runtimes.artifacts import BARE

ITEMS = {"keys": ["a", "b"], "columns": {"x": [[1, 2, 3, 4], [5, 6, 7, 8]]}}


async def test_whatever_has_a_schema_is_a_route() -> None:
    known = {(method, path) for method, path, _ in (*ROUTES, *open_inference.ROUTES)}
    assert {*BODIES, *REPLIES} <= known


async def test_replies_fit_their_schemas(api: Api) -> None:
    await commit_doubler(api, "m")
    metadata = {"name": "n", "version": "1.0", "inputs": ["a"], "outputs": [{"name": "b"}]}
    fit("POST", "/register", await succeed(api.post("/register", metadata)))
    columns = {"x": {"dtype": "float32", "shape": [4]}}
    await succeed(api.put("/datasets/d", {"columns": columns}))
    stored = await succeed(api.post("/datasets/d/items", ITEMS))
    fit("POST", "/datasets/{name}/items", stored)
    started = await succeed(api.post("/batch", {"model": "m", "dataset": "d"}))
    fit("POST", "/batch", started)
    fit("DELETE", "/jobs/{id}", await succeed(api.delete(f"/jobs/{started.value['job']}")))


@pytest.mark.parametrize("deployed", [False, True])
async def test_answers_have_the_whole_shape_of_their_schema(api: Api, deployed: bool) -> None:
    await commit_doubler(api, "m")
    if deployed:
        await succeed(api.post("/deployments", {"model": "m", "cache_mb": 1}))
    for _ in range(2):  # the second one is remembered
        answer = await succeed(api.post("/call", {"model": "m", "inputs": {"x": [1, 2, 3, 4]}}))
        assert ("cached" in answer.value["timing"]) <= deployed
        answer.value["outputs"] = {name: [] for name in answer.value["outputs"]}
        fit_whole("POST", "/call", answer)
    assert ("cached" in answer.value["timing"]) == deployed


async def test_deployments_have_the_whole_shape_of_their_schema(api: Api, scratch: Path) -> None:
    await commit_doubler(api, "m")
    twice = {**BARE, "layers": [{"name": "once", "op": "relu"}, *BARE["layers"]]}
    await succeed(api.post("/register", {**doubler("parts"), "graph": twice}))
    await succeed(api.post(V.format("parts") + "/commit"))
    await commit_classifier(api, weights(scratch))
    asked: list[dict[str, Any]] = [
        {"model": "m"},
        {"model": "m", "cache_mb": 1},
        {"model": "parts", "split": "pipeline"},
        {"model": "classifier", "split": "tensor"},
    ]
    for body in asked:
        fit_whole("POST", "/deployments", await succeed(api.post("/deployments", body)))
        planned = await succeed(api.post("/deployments", {**body, "dry_run": True}))
        fit_whole("POST", "/deployments", planned, of=1)
    listed = await succeed(api.get("/deployments"))
    fit_whole("GET", "/deployments", listed)
    for each in listed.value["deployments"]:
        shown = await succeed(api.get(f"/deployments/{each['id']}"))
        fit_whole("GET", "/deployments/{id}", shown)


def fit_whole(method: str, path: str, reply: Reply, of: int = 0) -> None:
    """Nothing that the reply has is missing in its schema, however deep."""
    fitted: Any = msgspec.convert(reply.value, REPLIES[method, path][of], strict=True)
    assert msgspec.to_builtins(fitted) == reply.value


async def test_a_reply_that_has_one_of_two_shapes_says_both(api: Api) -> None:
    document = (await succeed(api.get("/openapi.json"))).value
    deploying = document["paths"]["/deployments"]["post"]["responses"]["2XX"]
    shapes = deploying["content"]["application/json"]["schema"]["anyOf"]
    names = [shape["$ref"].rpartition("/")[2] for shape in shapes]
    assert names == ["Deployed", "DryRun"]


def test_fields_that_are_described_are_those_that_are_taken() -> None:
    assert set(Call.__struct_fields__) == seed._FIELDS
    own = set(deploymentspec._OWN) | {"dry_run"}
    assert set(Deploying.__struct_fields__) == own | set(PlanRequest.__struct_fields__)


async def test_bodies_that_fit_their_schemas_are_taken(api: Api) -> None:
    await commit_doubler(api, "m")
    target: dict[str, Any] = {"inputs": {"x": [1, 2, 3, 4]}, "targets": {"doubled": [0, 0, 0, 0]}}
    sent: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/call", {"model": "m", "inputs": {"x": [1, 2, 3, 4]}, "timeout_ms": 900}),
        ("POST", V + "/loss", {**target, "loss": "mse"}),
        ("POST", V + "/gradient", {**target, "loss": "mse", "wrt": "inputs"}),
        ("PUT", "/models/{}/aliases/best", {"version": "1.0", "weight": 0.0}),
        ("PUT", "/datasets/d", {"columns": {"x": {"dtype": "float32", "shape": [4]}}}),
        ("POST", "/datasets/d/items", ITEMS),
        ("POST", "/deployments", {"model": "m", "replicas": 1, "dry_run": True}),
        ("POST", "/nodes", {"id": "further"}),
    ]
    for method, path, body in sent:
        await succeed(api.send(method, path.format("m"), body))
        msgspec.convert(body, BODIES[method, route_of(method, path.format("m"))], strict=True)


async def test_an_infer_request_that_fits_its_schema_is_taken(served: Served) -> None:
    await commit_doubler(served.api, "m")
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    body = {"id": "7", "inputs": [tensor], "outputs": [{"name": "doubled"}]}
    path = "/v2/models/m/infer"
    assert (await ask(served, "POST", path, body)).status == 200
    msgspec.convert(body, BODIES["POST", route_of("POST", path)], strict=True)


def route_of(method: str, path: str) -> str:
    """The pattern of the route that has a body's schema and fits `path`."""
    fitting = (
        pattern
        for known, pattern in BODIES
        if known == method and re.fullmatch(re.sub(r"{\w+}", "[^/]+", pattern), path)
    )
    return next(fitting)


def fit(method: str, path: str, reply: Any) -> None:
    (kind,) = REPLIES[method, path]
    msgspec.convert(reply.value, kind, strict=True)
    assert reply.value.keys() <= {field.encode_name for field in msgspec.structs.fields(kind)}


async def test_every_reference_leads_to_a_schema(api: Api) -> None:
    document = (await succeed(api.get("/openapi.json"))).value
    register = document["paths"]["/register"]["post"]
    said = register["responses"]["2XX"]["content"]["application/json"]["schema"]
    assert said == {"$ref": "#/components/schemas/VersionMetadata"}
    inputs = document["components"]["schemas"]["VersionMetadata"]["properties"]["inputs"]
    assert {"type": "string"} in inputs["items"]["anyOf"]
    named = {ref.removeprefix("#/components/schemas/") for ref in refs(document)}
    assert named <= document["components"]["schemas"].keys()


def refs(value: Any) -> set[str]:
    if isinstance(value, dict):
        here = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return here.union(*map(refs, value.values()))
    return set().union(*map(refs, value)) if isinstance(value, list) else set()
