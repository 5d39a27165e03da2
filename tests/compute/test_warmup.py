"""Warm-up requests: checked at the commit, run at every load, hidden from the runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from aiaas_async.compute.host import Host
from aiaas_async.compute.jobs import ArtifactFiles, Infer, Inspect, Load
from aiaas_async.compute.warmup import MAX_BYTES, MAX_REQUESTS
from aiaas_async.errors import ArtifactError, NotFoundError
from aiaas_async.messages import TensorSpec
from aiaas_async.runtimes.layers import LayersModel
from tests.runtimes.artifacts import BARE
from tests.runtimes.onnxmodels import linear, stored
from tests.runtimes.operators import Echo

ITEM = [1.0, 2.0, 3.0, 4.0]
X = {"dtype": "float32", "shape": [2, 4], "data": np.ones((2, 4), np.float32).tobytes()}
Seen = list[tuple[list[int], Any]]


def files(folder: Path, requests: Mapping[str, object]) -> ArtifactFiles:
    """A doubler with these requests."""
    return ArtifactFiles("numpy", requests_in(folder, requests), BARE)


def requests_in(folder: Path, requests: Mapping[str, object]) -> dict[str, str]:
    found = {}
    for number, (name, body) in enumerate(requests.items()):
        path = folder / f"{number}"
        path.write_bytes(body if isinstance(body, bytes) else json.dumps(body).encode())
        found[f"warmup/{name}"] = str(path)
    return found


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Shape of the input and the outputs asked for, of each prediction."""
    found: Seen = []
    predict = LayersModel.predict

    def watched(
        self: LayersModel, arrays: Mapping[str, Any], outputs: Sequence[str] | None
    ) -> dict[str, Any]:
        found.append((list(arrays["x"].shape), outputs))
        return predict(self, arrays, outputs)

    monkeypatch.setattr(LayersModel, "predict", watched)
    return found


GOOD: dict[str, object] = {
    "b.json": {"inputs": {"x": ITEM}, "outputs": ["doubled"]},
    "a.msgpack": msgpack.packb({"inputs": {"x": X}}),
    "c.json": {"x": [ITEM] * 3},
}


def test_stored_requests_run_in_the_order_of_their_names_at_every_load(
    tmp_path: Path, seen: Seen
) -> None:
    host, given = Host(), files(tmp_path, GOOD)
    for _ in range(2):
        list(host.do(Load("m", given), {}))
        assert seen == [([2, 4], None), ([1, 4], ("doubled",)), ([3, 4], None)]
        seen.clear()


def test_examining_an_artifact_reads_them_and_runs_none(tmp_path: Path, seen: Seen) -> None:
    list(Host().do(Inspect(files(tmp_path, GOOD)), {}))
    assert seen == []


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "other input": ({"a.json": {"inputs": {"z": ITEM}}}, r"warmup/a\.json.* fails: .*'z'"),
    "other shape": ({"a.json": {"x": [1.0]}}, "expects x: float32"),
    "other output": ({"a.json": {"inputs": {"x": ITEM}, "outputs": ["z"]}}, "'outputs' must be"),
    "outputs no list": ({"a.json": {"inputs": {"x": ITEM}, "outputs": 1}}, "'outputs' must be"),
    "other field": ({"a.json": {"inputs": {"x": ITEM}, "model": "m"}}, "the field 'model'"),
    "no object": ({"a.json": [1]}, "an object is expected"),
    "no json": ({"a.json": b"{"}, "the body is not JSON"),
    "no msgpack": ({"a.msgpack": b"\xc1"}, "MessagePack"),
    "other kind": ({"a.txt": b"x"}, r"must end in \.json or \.msgpack"),
    "too large": ({"a.json": bytes(MAX_BYTES + 1)}, f"{MAX_BYTES} are allowed"),
    "too many": (
        {f"{n}.json": {"x": ITEM} for n in range(MAX_REQUESTS + 1)},
        f"at most {MAX_REQUESTS}",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_call_of_the_signature_is_refused_by_its_name(
    tmp_path: Path, wrong: str
) -> None:
    requests, said = WRONG[wrong]
    with pytest.raises(ArtifactError, match=said):
        list(Host().do(Inspect(files(tmp_path, requests)), {}))


@pytest.mark.parametrize("error", [ArtifactError("no"), KeyError("/a/path/on/the/server")])
def test_a_request_that_fails_fails_the_load_and_nothing_stays_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(Echo, "gives", error)
    spec = (TensorSpec("x", "float32", (4,)),)
    stored_requests = requests_in(tmp_path, {"a.json": {"x": ITEM}})
    given = ArtifactFiles("echo", stored_requests, None, spec, spec)
    host = Host(targets={"echo": "tests.runtimes.operators:Echo"})
    with pytest.raises(ArtifactError, match=r"warmup/a\.json") as caught:
        list(host.do(Load("m", given), {}))
    assert "/a/path" not in caught.value.message
    with pytest.raises(NotFoundError):
        list(host.do(Infer("m", 1), {"x": np.ones((1, 4), np.float32)}))


def test_a_runtime_that_takes_no_other_files_never_sees_them(tmp_path: Path) -> None:
    requests = requests_in(tmp_path, {"a.json": {"x": [1.0, 2.0, 3.0]}})
    model = {"m.onnx": str(stored(tmp_path, linear()))}
    given = ArtifactFiles("onnx", {**requests, **model})
    list(Host().do(Load("m", given), {}))
