"""How each contender is started, and where it answers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiaas_async.client import Client
from bench.peers import environments
from bench.peers.works import Work

# A reply's body, and what finds its headers.
Reply = tuple[bytes, Callable[[str], str | None]]

SERVERS = Path(__file__).parent / "servers"
_STARTING_S = 120


@dataclass(frozen=True)
class Setting:
    """One way to ask one server; those with the same `server` share a process."""

    name: str
    server: str
    peer: str | None  # the environment; None: ours, in this one
    command: Callable[[Path, int], list[str]]
    environment: dict[str, str] = field(default_factory=dict)
    path: Callable[[Work], str] = lambda work: f"/v2/models/{work.model}/infer"
    encoding: Callable[[Work], str] = lambda work: work.encoding
    works: Callable[[Work], bool] = lambda _: True
    before: Callable[[Path, int], None] | None = None
    polls: bool = False  # takes CPU time while it waits, and so is held still


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    port: int

    def url(self, setting: Setting, work: Work) -> str:
        return f"http://127.0.0.1:{self.port}{setting.path(work)}"

    def ask(self, setting: Setting, work: Work, content: bytes, headers: dict[str, str]) -> Reply:
        """One request by hand. Raises `RuntimeError` unless 200, `OSError`."""
        request = urllib.request.Request(self.url(setting, work), content, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.read(), reply.headers.get
        except urllib.error.HTTPError as error:
            said = error.read()[:300].decode(errors="replace")
            raise RuntimeError(f"{error.code}: {said}") from None


def _script(name: str) -> Callable[[Path, int], list[str]]:
    return lambda venv, port: [str(venv / "bin/python"), str(SERVERS / name), str(port)]


def _mlserver(workers: int) -> Callable[[Path, int], None]:
    """Writes its folder of models: MLServer reads its settings from files alone."""

    def write(folder: Path, port: int) -> None:
        root = folder / f"mlserver-{workers}"
        shutil.rmtree(root, ignore_errors=True)
        settings = {
            "host": "127.0.0.1",
            "http_port": port,
            "grpc_port": port + 1,
            "metrics_port": port + 2,
            "parallel_workers": workers,
            "debug": False,
            "metrics_endpoint": None,
            "gzip_enabled": False,
        }
        root.mkdir()
        (root / "settings.json").write_text(json.dumps(settings))
        for name in ("small", "image", "large", "lite0"):
            batch = {"large": 32, "lite0": 8}.get(name, 0)
            model = {
                "name": name,
                "implementation": f"mlserver_model.{name.capitalize()}",
                "max_batch_size": batch,
                "max_batch_time": 0.01 if batch else 0,
            }
            (root / name).mkdir()
            (root / name / "model-settings.json").write_text(json.dumps(model))

    return write


def _mlserver_command(workers: int) -> Callable[[Path, int], list[str]]:
    return lambda venv, _: [str(venv / "bin/mlserver"), "start", f"mlserver-{workers}"]


def _bentoml(venv: Path, port: int) -> list[str]:
    serve = [str(venv / "bin/bentoml"), "serve", "bentoml_app:Front", "--port", str(port)]
    # Its services close idle connections that its own front still holds, and calls fail.
    serve += ["--timeout-keep-alive", "600"]
    return [*serve, "--host", "127.0.0.1", "--working-dir", str(SERVERS)]


def _ours(_: Path, port: int) -> list[str]:
    serve = [sys.executable, "-m", "aiaas_async", "serve", "--port", str(port)]
    return [*serve, "--data-dir", f"data-{port}"]


_RAY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # It is held still between readings; none of its parts shall count the other as dead.
    "RAY_health_check_failure_threshold": "1000",
    "RAY_health_check_timeout_ms": "600000",
}

_ONE_NODE = {"AIAAS_NODES": "1", "AIAAS_WORKER_THREADS": "2"}

SETTINGS = (
    Setting("floor", "floor", "floor", _script("floor.py")),
    Setting(
        "floor, request.json()",
        "floor",
        "floor",
        _script("floor.py"),
        path=lambda work: f"/plain/{work.model}",
        works=lambda work: work.encoding == "json",
    ),
    Setting(
        "floor, in a worker",
        "floor-worker",
        "floor",
        _script("floor_worker.py"),
        works=lambda work: work.model == "large" and work.connections == 1,
    ),
    Setting("ours", "ours", None, _ours),
    Setting(
        "ours, /call",
        "ours",
        None,
        _ours,
        path=lambda _: "/call",
        encoding=lambda _: "msgpack",
        works=lambda work: work.encoding == "binary",
    ),
    Setting(
        "ours, one node",
        "ours-one",
        None,
        _ours,
        _ONE_NODE,
        works=lambda work: work.model in ("large", "lite0"),
    ),
    Setting(
        "ours, one node, /call",
        "ours-one",
        None,
        _ours,
        _ONE_NODE,
        path=lambda _: "/call",
        encoding=lambda _: "msgpack",
        works=lambda work: work.model == "large",
    ),
    Setting("ours, split", "ours-split", None, _ours, works=lambda work: work.model == "large"),
    Setting("FastAPI", "fastapi", "fastapi", _script("fastapi_app.py")),
    Setting(
        "MLServer, own route",
        "mlserver",
        "mlserver",
        _mlserver_command(0),
        path=lambda work: f"/raw/{work.model}",
        before=_mlserver(0),
    ),
    Setting(
        "MLServer, V2",
        "mlserver",
        "mlserver",
        _mlserver_command(0),
        encoding=lambda _: "json",
        works=lambda work: work.model in ("large", "lite0") or work.encoding == "json",
        before=_mlserver(0),
    ),
    Setting("Ray Serve", "ray", "ray", _script("ray_app.py"), _RAY, polls=True),
    Setting("PyTriton", "pytriton", "pytriton", _script("pytriton_app.py")),
    Setting("BentoML", "bentoml", "bentoml", _bentoml, {"BENTOML_DO_NOT_TRACK": "true"}),
    Setting("LitServe", "litserve", "litserve", _script("litserve_app.py"), polls=True),
)


def start(setting: Setting, environments_folder: Path, folder: Path) -> Running:
    """Start it and wait for its port; raises `RuntimeError` with its last words."""
    port = _free_ports()
    if setting.before is not None:
        setting.before(folder, port)
    venv = environments_folder / (setting.peer or "")
    own = {"BENCH_FOLDER": str(folder), "BENCH_PORT": str(port), **setting.environment}
    if setting.peer is not None:
        own |= {"PYTHONPATH": str(SERVERS), "PATH": f"{venv / 'bin'}:{os.environ['PATH']}"}
    log = folder / f"{setting.server}.log"
    process = subprocess.Popen(
        setting.command(venv, port),
        env=os.environ | own,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
    )
    running = Running(process, port)
    _wait(setting.name, running, log)
    return running


def _free_ports() -> int:
    """A port that is free, as are the two after it."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 65000 and all(_is_free(p) for p in (port + 1, port + 2)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _wait(name: str, running: Running, log: Path) -> None:
    until = time.monotonic() + _STARTING_S
    while time.monotonic() < until:
        if running.process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", running.port)) == 0:
                return
        time.sleep(0.1)
    said = log.read_text(errors="replace")[-800:]
    raise RuntimeError(f"{name} did not come up: {said}")


_LITE0 = {
    "runtime": "onnx",
    "inputs": [{"name": "x", "dtype": "float32", "shape": [3, 224, 224]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": [1000]}],
}


def push_models(setting: Setting, running: Running, folder: Path) -> None:
    """Ours takes its models over HTTP, once a server."""
    with Client(f"http://127.0.0.1:{running.port}") as client:
        for name in ("small", "image", "large"):
            client.push(name, "1", folder / "ours" / name)
        client.push("lite0", "1", folder / "lite0.onnx", _LITE0)
        if setting.server == "ours-split":
            client.deploy("large", mode="distributed", split="tensor")


def absent(folder: Path) -> list[str]:
    return [peer for peer in environments.PEERS if not environments.present(folder, peer)]
