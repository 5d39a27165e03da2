"""The floor: a bare aiohttp + uvloop handler that computes in line. `floor.py PORT`."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import uvloop
from aiohttp import web
from served import HEADER, NAMES, load, read, write


def handler(name: str) -> Any:
    model = load(name)

    async def infer(request: web.Request) -> web.Response:
        length = request.headers.get(HEADER)
        x = read(await request.read(), length)
        body, headers = write(name, model(x), length is not None)
        return web.Response(body=body, headers=headers)

    return infer


def plain(name: str) -> Any:
    """The same, with JSON as aiohttp offers it."""
    model = load(name)

    async def infer(request: web.Request) -> web.Response:
        tensor = (await request.json())["inputs"][0]
        y = model(np.array(tensor["data"], np.float32).reshape(tensor["shape"]))
        output = {"name": "y", "datatype": "FP32", "shape": y.shape, "data": y.ravel().tolist()}
        return web.json_response({"model_name": name, "outputs": [output]})

    return infer


def main() -> None:
    app = web.Application(client_max_size=64 << 20)
    for name in NAMES:
        app.router.add_post(f"/v2/models/{name}/infer", handler(name))
    for name in ("small", "image"):
        app.router.add_post(f"/plain/{name}", plain(name))
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None)


if __name__ == "__main__":
    main()
