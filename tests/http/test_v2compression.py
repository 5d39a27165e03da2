"""Replies of /v2 in the coding that the caller takes."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.http import v2compression
from aiaas_async.http.v2compression import coding_for
from aiaas_async.wire.open_inference import HEADER_LENGTH
from tests.http.conftest import Served
from tests.http.models import commit_doubler
from tests.http.v2asking import BYTES, DOUBLED, INFER, body_of, tensor

UNPACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("gzip;q=0.5, deflate", "deflate"),
        ("GZIP ; q=0.1", "gzip"),
        ("*", "gzip"),
        ("*;q=0", None),
        ("gzip;q=0", None),
        ("identity, gzip;q=0.5", None),
        ("br", None),
        ("", None),
        ("gzip;q=x", None),
    ],
)
def test_the_coding_is_what_the_caller_wants_most(accepted: str, coding: str | None) -> None:
    assert coding_for(accepted) == coding


@given(st.text(max_size=200))
def test_any_header_names_a_coding_or_none(accepted: str) -> None:
    assert coding_for(accepted) in {"gzip", "deflate", None}


async def post(served: Served, body: Any, headers: dict[str, str]) -> tuple[Any, bytes]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with served.api.session.post(served.url + INFER, data=raw, headers=headers) as response:
        return response.headers, await response.read()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_json_and_tensors_are_compressed(served: Served, coding: str) -> None:
    await commit_doubler(served.api)
    body = {"id": "a" * 200, "inputs": [tensor()]}
    headers, packed = await post(served, body, {"Accept-Encoding": coding})
    assert (headers["Content-Encoding"], headers["Vary"]) == (coding, "Accept-Encoding")
    value = json.loads(UNPACK[coding](packed))
    assert value["outputs"][0]["data"] == np.frombuffer(DOUBLED, np.float32).tolist()
    one = {"name": "x", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": 32}}
    head = {"id": "a" * 200, "inputs": [one], "parameters": {"binary_data_output": True}}
    raw, length = body_of(head, BYTES)
    headers, packed = await post(served, raw, {**length, "Accept-Encoding": coding})
    assert headers["Content-Type"] == "application/octet-stream"
    whole = UNPACK[coding](packed)
    assert whole[int(headers[HEADER_LENGTH]) :] == DOUBLED
    assert int(headers["Content-Length"]) == len(packed) < len(whole)


async def test_what_would_not_shrink_and_what_is_refused_go_as_they_are(served: Served) -> None:
    await commit_doubler(served.api)
    for path in ("/v2", "/v2/health/live", "/v2/models/doubler/config"):
        async with served.api.session.get(
            served.url + path, headers={"Accept-Encoding": "gzip"}
        ) as response:
            assert "Content-Encoding" not in response.headers
    headers, raw = await post(served, {"inputs": [], "id": 1}, {"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in headers
    assert json.loads(raw)["error"]


async def test_long_replies_are_compressed_beside_the_loop(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await commit_doubler(served.api)
    threads: list[threading.Thread] = []
    pack = v2compression._pack

    def noted(body: bytes, coding: str) -> bytes:
        threads.append(threading.current_thread())
        return pack(body, coding)

    monkeypatch.setattr(v2compression, "_pack", noted)
    rows = [[0.0] * 4] * 8000
    for data in (rows[:20], rows):
        body = {"inputs": [tensor(data, shape=[len(data), 4])]}
        _, packed = await post(served, body, {"Accept-Encoding": "gzip"})
        assert len(json.loads(gzip.decompress(packed))["outputs"][0]["data"]) == 4 * len(data)
    assert threads[0] is threading.main_thread()
    assert threads[1] is not threading.main_thread()
