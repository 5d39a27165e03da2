"""/openapi.json: what it says of replies is what comes."""

from __future__ import annotations

from typing import Any

import msgspec

from aiaas_async.http.app import ROUTES
from aiaas_async.http.openapi import BODIES, REPLIES
from tests.http.api import Api
from tests.http.models import commit_doubler, succeed

ITEMS = {"keys": ["a", "b"], "columns": {"x": [[1, 2, 3, 4], [5, 6, 7, 8]]}}


async def test_whatever_has_a_schema_is_a_route() -> None:
    known = {(method, path) for method, path, _ in ROUTES}
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


def fit(method: str, path: str, reply: Any) -> None:
    kind = REPLIES[method, path]
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
