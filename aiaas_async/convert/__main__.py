"""`python -m aiaas_async.convert lite0 FOLDER`: EfficientNet-Lite0, ready for `aiaas push`.

FOLDER/numpy gets a layer graph and its weights, FOLDER/onnx a model.onnx (with `--onnx`).
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from aiaas_async.convert import lite0
from aiaas_async.convert.onnxgraph import onnx_model
from aiaas_async.errors import AiaasError
from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.formats.torchfile import read_checkpoint
from aiaas_async.nn.network import Network

PLAIN: Final = "numpy"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m aiaas_async.convert", description=__doc__)
    parser.add_argument("model", choices=["lite0"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--onnx", action="store_true", help="as ONNX too (needs the package onnx)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    try:
        written = write(given.folder, onnx=given.onnx)
    except AiaasError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    tell(given.model, written, as_json=given.json)
    return 0


def tell(model: str, folders: Sequence[Path], *, as_json: bool) -> None:
    """Print which files are there, their bytes, and what makes a version of each folder."""
    facts: list[dict[str, Any]] = [
        {
            "folder": str(folder),
            "files": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
            "next": f"aiaas push {_name(model, folder)} 1.0 {shlex.quote(str(folder))}",
        }
        for folder in folders
    ]
    if as_json:
        print(json.dumps({"written": facts}, indent=2))
        return
    for folder, fact in zip(folders, facts, strict=True):
        for name, nbytes in fact["files"].items():
            print(f"{folder / name}: {nbytes} bytes")
        print(f"  {fact['next']}")


def _name(model: str, folder: Path) -> str:
    """One for each form: both may be pushed."""
    return model if folder.name == PLAIN else f"{model}-{folder.name}"


def write(folder: Path, *, onnx: bool) -> list[Path]:
    """The folders written. Raises `ArtifactError` where the weights' package is missing."""
    spec = lite0.graph()
    params = lite0.parameters(read_checkpoint(lite0.weights_path()))
    network = Network.from_spec(spec)
    network.check(params)
    plain = folder / PLAIN
    plain.mkdir(parents=True, exist_ok=True)
    (plain / "graph.json").write_text(json.dumps(spec, indent=1), encoding="utf-8")
    write_tensors(plain / "lite0.safetensors", params)
    if not onnx:
        return [plain]
    other = folder / "onnx"
    other.mkdir(exist_ok=True)
    (other / "model.onnx").write_bytes(onnx_model(network, params))
    return [plain, other]


if __name__ == "__main__":
    sys.exit(main())
