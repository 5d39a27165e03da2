"""Versions for the tests of a platform."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.names import ModelRef
from aiaas_async.nn.network import Network, Params
from aiaas_async.service.platform import Platform


async def push(
    platform: Platform, folder: Path, ref: ModelRef, network: Network, params: Params
) -> None:
    """Register, upload and commit `ref`: a network of one input, "x", and its weights."""
    write_tensors(folder / "w.safetensors", params)

    async def chunks() -> AsyncIterator[bytes]:
        yield (folder / "w.safetensors").read_bytes()

    outputs = list(network.graph.outputs)
    body = {"name": ref.name, "version": ref.version, "inputs": ["x"], "outputs": outputs}
    await platform.models.register({**body, "graph": network.to_spec()})
    await platform.models.upload(ref, "w.safetensors", chunks(), None)
    await platform.models.commit(ref)
