"""POST /train on a version served here: the last layer alone, or a new one on the old body."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aiaas_async.formats.safetensors import map_tensors
from tests.http.api import Api
from tests.http.models import V, succeed
from tests.http.test_jobs import ORDER, PLAN, events, store
from tests.training.data import GRAPH

LAST_ONLY = {**PLAN, "trainable": ["logits"], "learning_rate": 0.1}
FOUR_CLASSES = {
    **GRAPH,
    "layers": [
        {**each, "units": 4} if each["name"] == "logits" else each for each in GRAPH["layers"]
    ],
}


async def trained(api: Api, **order: Any) -> dict[str, Any]:
    """The job when it is over."""
    job = (await succeed(api.post("/train", {**ORDER, **order}))).value["job"]
    await events(api, job)
    shown: dict[str, Any] = (await api.get(f"/jobs/{job}")).value
    return shown


async def weights(api: Api, version: str, tmp_path: Any) -> dict[str, Any]:
    path = f"{api.url}/models/m/versions/{version}/files/weights.safetensors"
    async with api.session.get(path) as response:
        assert response.status == 200
        file = tmp_path / version
        file.write_bytes(await response.read())
    return {name: np.array(array) for name, array in map_tensors(file).tensors.items()}


async def test_the_last_layer_alone_is_trained_further(api: Api, tmp_path: Any) -> None:
    await store(api)
    assert (await trained(api))["state"] == "succeeded"
    again = await trained(api, version="1.1", graph=None, parent="m:1.0", plan=LAST_ONLY)
    assert again["state"] == "succeeded", again
    before, after = [await weights(api, version, tmp_path) for version in ("1.0", "1.1")]
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"logits.weight", "logits.bias"}
    version = (await api.get(V.format("m").replace("1.0", "1.1"))).value
    assert version["lineage"]["plan"]["trainable"] == ["logits"]


async def test_a_new_last_layer_is_trained_on_the_parents_others(api: Api, tmp_path: Any) -> None:
    await store(api)
    await trained(api)
    done = await trained(api, version="2.0", graph=FOUR_CLASSES, parent="m:1.0", plan=LAST_ONLY)
    assert done["state"] == "succeeded", done
    before, after = [await weights(api, version, tmp_path) for version in ("1.0", "2.0")]
    assert after["logits.weight"].shape == (8, 4)
    for name in before.keys() - {"logits.weight", "logits.bias"}:
        np.testing.assert_array_equal(before[name], after[name])
    answer = await succeed(api.post("/call", {"model": "m", "inputs": {"x": [0] * 6}}))
    assert answer.value["version"] == "2.0"


@pytest.mark.parametrize(
    ("patterns", "complaint"),
    [
        (["logitz"], "no trainable parameter fits 'logitz'; did you mean 'logits'?"),
        ([], "plan.trainable"),
        ("logits", "plan.trainable"),
    ],
)
async def test_what_cannot_be_trained_is_refused_at_once(
    api: Api, patterns: Any, complaint: str
) -> None:
    await store(api)
    reply = await api.post("/train", {**ORDER, "plan": {**PLAN, "trainable": patterns}})
    assert reply.status == 422
    assert complaint in reply.value["detail"]


async def test_a_graph_that_shares_nothing_with_its_parent_fails_with_the_reason(api: Api) -> None:
    await store(api)
    await trained(api)
    stranger = {
        "inputs": GRAPH["inputs"],
        "layers": [{"name": "other", "op": "dense", "units": 3}],
        "outputs": ["other"],
    }
    done = await trained(
        api, version="2.0", graph=stranger, parent="m:1.0", plan={**PLAN, "loss": "cross_entropy"}
    )
    assert done["state"] == "failed"
    assert "none of the weights fits the graph" in str(done["error"])
