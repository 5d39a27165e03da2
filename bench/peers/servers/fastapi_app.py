"""FastAPI on uvicorn (uvloop, httptools), raw requests, in line. `fastapi_app.py PORT`."""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI, Request, Response
from served import HEADER, NAMES, load, read, write

app = FastAPI()
models = {name: load(name) for name in NAMES}


@app.post("/v2/models/{name}/infer")
async def infer(name: str, request: Request) -> Response:
    length = request.headers.get(HEADER)
    x = read(await request.body(), length)
    body, headers = write(name, models[name](x), length is not None)
    return Response(body, headers=headers)


if __name__ == "__main__":
    port = int(sys.argv[1])
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", access_log=False)
