"""The floor for serving: a bare aiohttp + uvloop handler that computes in line with numpy.

    python -m bench.floor PORT FOLDER

It decodes the same bodies and answers the same outputs, but has no registry, no queue, no second
process, and checks nothing. JSON is read as aiohttp offers it (`request.json()`), and a second time
with msgspec, the platform's own decoder. FOLDER holds the weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgpack
import msgspec
import numpy as np
import uvloop
from aiohttp import web

from aiaas_async.formats.safetensors import map_tensors
from bench.bodies import MODELS


def add_routes(app: web.Application, folder: Path, name: str) -> None:
    model = MODELS[name]
    weights = map_tensors(folder / f"{name}.safetensors").tensors if model.weights else {}

    async def by_msgpack(request: web.Request) -> web.Response:
        raw = msgpack.unpackb(await request.read())["inputs"]["x"]
        x = np.frombuffer(raw["data"], np.float32).reshape(raw["shape"])
        y = model.compute(weights, x[None])[0]
        out = {"dtype": "float32", "shape": list(y.shape), "data": y.tobytes()}
        body = msgpack.packb({"outputs": {"y": out}})
        return web.Response(body=body, content_type="application/msgpack")

    async def by_json(request: web.Request) -> web.Response:
        x = np.array((await request.json())["inputs"]["x"], np.float32)
        y = model.compute(weights, x[None])[0]
        return web.json_response({"outputs": {"y": y.tolist()}})

    async def by_msgspec(request: web.Request) -> web.Response:
        x = np.array(msgspec.json.decode(await request.read())["inputs"]["x"], np.float32)
        y = model.compute(weights, x[None])[0]
        body = msgspec.json.encode({"outputs": {"y": y.tolist()}})
        return web.Response(body=body, content_type="application/json")

    app.router.add_post(f"/{name}/msgpack", by_msgpack)
    app.router.add_post(f"/{name}/json", by_json)
    app.router.add_post(f"/{name}/msgspec", by_msgspec)


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    app = web.Application(client_max_size=64 << 20)
    for name in MODELS:
        add_routes(app, folder, name)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=port, access_log=None)


if __name__ == "__main__":
    main()
