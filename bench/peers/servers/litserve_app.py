"""LitServe: one API a model, each with its worker; bodies go raw to the worker.

`litserve_app.py PORT`. `decode_request` asks FastAPI for bytes: LitServe itself would read JSON.
FastAPI reads the annotation as it stands, so they are not postponed here.
"""

import sys
from typing import Annotated, Any

import litserve
import numpy as np
from fastapi import Depends, Request, Response
from served import BATCHED, HEADER, MAX_BATCH, NAMES, load, read, write


async def raw(request: Request) -> tuple[bytes, str | None]:
    return await request.body(), request.headers.get(HEADER)


Raw = Annotated[tuple, Depends(raw)]


class Served(litserve.LitAPI):
    def __init__(self, name: str) -> None:
        batch = MAX_BATCH[name] if name in BATCHED else 1
        super().__init__(
            max_batch_size=batch,
            batch_timeout=0.005 if batch > 1 else 0.0,
            api_path=f"/v2/models/{name}/infer",
        )
        self.name = name

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        self.model = load(self.name)

    def decode_request(self, request: Raw) -> Any:
        body, length = request
        return read(body, length), length is not None

    def predict(self, x: Any) -> Any:
        if isinstance(x, tuple):
            return self.model(x[0]), x[1]
        y = self.model(np.concatenate([item for item, _ in x]))
        return [(y[i : i + 1], binary) for i, (_, binary) in enumerate(x)]

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: Any) -> Response:
        body, headers = write(self.name, *output)
        return Response(body, headers=headers)


if __name__ == "__main__":
    server = litserve.LitServer(
        [Served(name) for name in NAMES], accelerator="cpu", fast_queue=True, timeout=60
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
