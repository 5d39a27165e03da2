"""`aiaas serve`: settings, the fork server first, then everything else."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

import click

from aiaas_async.compute.pool import WorkerForks
from aiaas_async.config import Settings, load_settings
from aiaas_async.errors import AiaasError
from aiaas_async.requestid import WithRequestId

BAD_SETTING = 2


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.")
@click.option("--data-dir", help="Folder for everything the server keeps.")
@click.option("--nodes", type=int, help="Number of nodes at first; 0: one a core.")
@click.option("--allow-remote", is_flag=True, default=None, help="Listen beyond loopback.")
@click.option("--log-level", help="debug, info, warning or error.")
def serve(
    config: Path | None,
    host: str | None,
    port: int | None,
    data_dir: str | None,
    nodes: int | None,
    allow_remote: bool | None,
    log_level: str | None,
) -> None:
    """Run the server until Ctrl-C or SIGTERM.

    Settings come from flags, the environment (AIAAS_PORT=9000 …), the --config file (or
    $AIAAS_CONFIG) and defaults, in this order; config.example.toml lists them all.
    """
    flags = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "nodes": nodes,
        "allow_remote": allow_remote,
        "log_level": log_level,
    }
    try:
        named = os.environ.get("AIAAS_CONFIG")
        file = config or (Path(named) if named else None)
        run(load_settings(file, os.environ, flags))
    except AiaasError as error:
        click.echo(f"aiaas serve: {error.message}", err=True)
        sys.exit(BAD_SETTING)


def run(settings: Settings) -> None:
    """Serve with `settings` until a signal. Raises `AiaasError` when it cannot start."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s [%(request_id)s]: %(message)s",
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(WithRequestId())
    if settings.access_log:
        _log_accesses()
    # First of all: its import of numpy overlaps ours of aiohttp.
    targets = {name: runtime.target for name, runtime in settings.runtimes.items()}
    workers = WorkerForks(settings.worker_threads, settings.worker_memory_mb << 20, targets)
    from aiaas_async.http.server import serve as serve_http  # noqa: PLC0415

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve_http(settings, workers, _say_ready))


def _log_accesses() -> None:
    """Access lines are JSON and nothing else."""
    access = logging.getLogger("aiaas.access")
    access.addHandler(logging.StreamHandler())
    access.setLevel(logging.INFO)
    access.propagate = False


def _say_ready(address: str) -> None:
    with suppress(OSError):  # it serves all the same
        click.echo(f"listening on {address}")


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    found: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return found
