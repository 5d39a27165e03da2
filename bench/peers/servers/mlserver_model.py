"""MLServer: V2 JSON through its codecs, binary bodies on a route of its own.

MLServer 1.7 does not speak the binary tensor extension over HTTP; custom routes are computed
in line and not batched.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import Request, Response
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.handlers import custom_handler
from mlserver.types import InferenceRequest, InferenceResponse
from served import HEADER, load, read, write


class Served(MLModel):
    model: Any

    async def load(self) -> bool:
        self.model = load(self.name)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        y = self.model(x)
        outputs = [NumpyCodec.encode_output("y", y)]
        return InferenceResponse(model_name=self.name, outputs=outputs)

    async def answer(self, request: Request) -> Response:
        length = request.headers.get(HEADER)
        x = read(await request.body(), length)
        body, headers = write(self.name, self.model(x), length is not None)
        return Response(body, headers=headers)


# A custom route is fixed at the class: one class a model.
class Small(Served):
    @custom_handler("/raw/small")
    async def raw(self, request: Request) -> Response:
        return await self.answer(request)


class Image(Served):
    @custom_handler("/raw/image")
    async def raw(self, request: Request) -> Response:
        return await self.answer(request)


class Large(Served):
    @custom_handler("/raw/large")
    async def raw(self, request: Request) -> Response:
        return await self.answer(request)


class Lite0(Served):
    @custom_handler("/raw/lite0")
    async def raw(self, request: Request) -> Response:
        return await self.answer(request)
