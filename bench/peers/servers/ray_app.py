"""Ray Serve: one deployment a model, requests raw. `ray_app.py PORT`.

The environment asks for HAProxy in front and for the throughput settings; batches for the two
dear models.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import numpy as np
import ray
from ray import serve
from served import BATCHED, HEADER, MAX_BATCH, NAMES, load, read, write
from starlette.requests import Request
from starlette.responses import Response


class Served:
    def __init__(self, name: str) -> None:
        self.name, self.model = name, load(name)

    async def compute(self, x: Any) -> Any:
        return self.model(x)

    async def __call__(self, request: Request) -> Response:
        length = request.headers.get(HEADER)
        x = read(await request.body(), length)
        body, headers = write(self.name, await self.compute(x), length is not None)
        return Response(body, headers=headers)


def batching(limit: int) -> type[Served]:
    class Batched(Served):
        @serve.batch(max_batch_size=limit, batch_wait_timeout_s=0.005)
        async def compute(self, x: list[Any]) -> list[Any]:
            y = self.model(np.concatenate(x))
            return [y[i : i + 1] for i in range(len(x))]

    return Batched


def main() -> None:
    port = int(sys.argv[1])
    ray.init(
        num_cpus=8,  # places for actors, not cores: four deployments and the proxy
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 << 20,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port, "access_log": False})
    for name in NAMES:
        kind = batching(MAX_BATCH[name]) if name in BATCHED else Served
        deployment = serve.deployment(
            kind,
            name=name,
            max_ongoing_requests=512,
            ray_actor_options={"num_cpus": 1, "runtime_env": {}},
            logging_config={"enable_access_log": False},
        )
        serve.run(deployment.bind(name), name=name, route_prefix=f"/v2/models/{name}/infer")
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
