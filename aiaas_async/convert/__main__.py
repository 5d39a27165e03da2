"""`python -m aiaas_async.convert lite0 FOLDER`: EfficientNet-Lite0, ready for `aiaas push`.

FOLDER/numpy gets a layer graph and its weights, FOLDER/onnx a model.onnx (with `--onnx`).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from aiaas_async.convert import lite0
from aiaas_async.convert.onnxgraph import onnx_model
from aiaas_async.errors import AiaasError
from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.formats.torchfile import read_checkpoint
from aiaas_async.nn.network import Network


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m aiaas_async.convert", description=__doc__)
    parser.add_argument("model", choices=["lite0"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--onnx", action="store_true", help="as ONNX too (needs the package onnx)")
    given = parser.parse_args(arguments)
    try:
        write(given.folder, onnx=given.onnx)
    except AiaasError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    return 0


def write(folder: Path, *, onnx: bool) -> None:
    """Raises `ArtifactError` where the weights' package is missing."""
    spec = lite0.graph()
    params = lite0.parameters(read_checkpoint(lite0.weights_path()))
    network = Network.from_spec(spec)
    network.check(params)
    plain = folder / "numpy"
    plain.mkdir(parents=True, exist_ok=True)
    (plain / "graph.json").write_text(json.dumps(spec, indent=1), encoding="utf-8")
    write_tensors(plain / "lite0.safetensors", params)
    if onnx:
        (folder / "onnx").mkdir(exist_ok=True)
        (folder / "onnx" / "model.onnx").write_bytes(onnx_model(network, params))


if __name__ == "__main__":
    sys.exit(main())
