"""How tests ask what the Open Inference Protocol's clients do, and read what they get."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from aiaas_async.wire.open_inference import HEADER_LENGTH
from tests.http.api import LEAKS
from tests.http.conftest import Served

ROWS = [[1.0, 2.0, 3.0, 4.0], [0.0, -1.0, 0.5, 8.0]]
INFER = "/v2/models/doubler/infer"


class Answer:
    """A response of the protocol: its JSON, and the tensors that follow."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body
        assert LEAKS.search(body) is None
        assert status != 500
        length = int(headers.get(HEADER_LENGTH, len(body)))
        self.value: Any = json.loads(body[:length]) if body else None
        self.rest = body[length:]

    @property
    def error(self) -> str:
        assert self.headers["Content-Type"] == "application/json"
        assert self.value.keys() == {"error"}
        text: str = self.value["error"]
        return text


async def ask(
    served: Served, method: str, path: str, body: Any = b"", headers: Any = None
) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with served.api.session.request(
        method, served.url + path, data=io.BytesIO(raw), headers=headers or {}
    ) as response:
        return Answer(response.status, response.headers, await response.read())


def tensor(data: Any = ROWS, **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2, 4], "datatype": "FP32", "data": data, **more}


def body_of(head: Any, *parts: bytes) -> tuple[bytes, dict[str, str]]:
    raw = json.dumps(head).encode()
    return raw + b"".join(parts), {HEADER_LENGTH: str(len(raw))}


BINARY = {"name": "x", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": 32}}
BYTES = np.array(ROWS, np.float32).tobytes()
DOUBLED = (2 * np.array(ROWS, np.float32)).tobytes()
