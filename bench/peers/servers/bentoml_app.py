"""BentoML: raw requests on a mounted ASGI application, the dear models in services that batch.

`bentoml serve bentoml_app:Front`. The cheap models compute in line: Bento's own JSON and file
inputs are slower.
"""

from __future__ import annotations

import bentoml
import numpy as np
from served import HEADER, MAX_BATCH, load, read, write
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Array = np.ndarray


@bentoml.service(workers=1, threads=1, traffic={"timeout": 60, "max_concurrency": 512})
class Large:
    def __init__(self) -> None:
        self.model = load("large")

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH["large"], max_latency_ms=60_000)
    def predict(self, x: Array) -> Array:
        return self.model(x)


@bentoml.service(workers=1, threads=1, traffic={"timeout": 60, "max_concurrency": 512})
class Lite0:
    def __init__(self) -> None:
        self.model = load("lite0")

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH["lite0"], max_latency_ms=60_000)
    def predict(self, x: Array) -> Array:
        return self.model(x)


async def infer(request: Request) -> Response:
    name = request.path_params["name"]
    length = request.headers.get(HEADER)
    x = read(await request.body(), length)
    front = bentoml.get_current_service()
    y = await front.compute(name, x)
    body, headers = write(name, y, length is not None)
    return Response(body, headers=headers)


app = Starlette(routes=[Route("/models/{name}/infer", infer, methods=["POST"])])


@bentoml.asgi_app(app, path="/v2")
@bentoml.service(
    workers=1, traffic={"timeout": 60, "max_concurrency": 512}, metrics={"enabled": False}
)
class Front:
    large = bentoml.depends(Large)
    lite0 = bentoml.depends(Lite0)

    def __init__(self) -> None:
        self.models = {name: load(name) for name in ("small", "image")}

    async def compute(self, name: str, x: Array) -> Array:
        if name in self.models:
            return self.models[name](x)
        return await getattr(self, name).to_async.predict(x)
