"""PyTriton: Triton (C++) with Python functions behind it. `pytriton_app.py PORT`."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from served import MAX_BATCH, NAMES, OUTPUTS, SHAPES, load


def function(name: str) -> Any:
    model = load(name)

    @batch
    def infer(x: Any) -> dict[str, Any]:
        return {"y": model(x)}

    return infer


def main() -> None:
    port = int(sys.argv[1])
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=port,
        grpc_address="127.0.0.1",
        grpc_port=port + 1,
        metrics_port=port + 2,
        allow_metrics=False,
        log_verbose=0,
        http_thread_count=8,
    )
    with Triton(config=config) as triton:
        for name in NAMES:
            triton.bind(
                model_name=name,
                infer_func=function(name),
                inputs=[Tensor(name="x", dtype=np.float32, shape=SHAPES[name])],
                outputs=[Tensor(name="y", dtype=np.float32, shape=(OUTPUTS[name],))],
                config=ModelConfig(
                    max_batch_size=MAX_BATCH.get(name, 32),
                    batcher=DynamicBatcher(max_queue_delay_microseconds=0),
                ),
            )
        triton.serve()


if __name__ == "__main__":
    main()
