"""call, load, unload."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiaas_async.cli.options import connected, json_option
from aiaas_async.cli.output import print_json
from aiaas_async.errors import InvalidError
from aiaas_async.names import LATEST, clip

if TYPE_CHECKING:
    from aiaas_async.client import Client
    from aiaas_async.client.answers import Timing


def _value(pair: str) -> tuple[str, Any]:
    """`name=JSON`, or `name=@file` with JSON or a .npy array."""
    name, separator, text = pair.partition("=")
    if not separator:
        raise InvalidError(f"inputs are given as name=JSON or name=@file, got {clip(pair)}")
    if not text.startswith("@"):
        return name, _json(text, name)
    path = Path(text[1:])
    try:
        if path.suffix == ".npy":
            import numpy as np  # noqa: PLC0415 - only for arrays

            return name, np.load(path, allow_pickle=False)
        return name, json.loads(path.read_text())
    except OSError as error:
        raise InvalidError(f"input {name}: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidError(
            f"input {name}: {path} is neither JSON nor a .npy array: {error}"
        ) from error


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidError(f"input {name} is not JSON: {error}") from error


@click.command()
@click.argument("model")
@click.argument("inputs", nargs=-1, required=True, metavar="NAME=VALUE…")
@click.option("-o", "--output", "outputs", multiple=True, help="Only these outputs.")
@click.option("--key", help="Picks the node on the ring.")
@click.option("--timeout", type=float, metavar="SECONDS")
@json_option
@connected
def call(
    client: Client,
    /,
    model: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    key: str | None,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Call MODEL (name, name:version or name:alias) with NAME=VALUE inputs.

    A value is JSON, @file.json, or @file.npy for a numpy array.
    """
    name, _, version = model.partition(":")
    answer = client.call(
        dict(map(_value, inputs)),
        model=name,
        version=version or LATEST,
        outputs=list(outputs) or None,
        key=key,
        timeout=timeout,
    )
    if as_json:
        print_json(asdict(answer))
        return
    for output, value in answer.outputs.items():
        click.echo(f"{output}: {value}")
    click.echo(f"{answer.model}:{answer.version} {_how(answer.timing)}", err=True)


def _how(timing: Timing) -> str:
    if timing.cached:  # no node had anything to do with it
        return "from the cache of answers"
    return (
        f"on {timing.node}, queued {timing.queue_us} us, "
        f"computed {timing.compute_us} us, batch of {timing.batch_size}"
    )


@click.command()
@click.argument("name")
@click.argument("version", default=LATEST)
@click.option("--pin", is_flag=True, help="Never evict it.")
@json_option
@connected
def load(client: Client, /, name: str, version: str, pin: bool, as_json: bool) -> None:
    """Load VERSION of model NAME onto the node its calls go to."""
    facts = client.load(name, version, pin=pin)
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{name}:{version} is on {facts['node']}{', pinned' if pin else ''}")


@click.command()
@click.argument("name")
@click.argument("version", default=LATEST)
@json_option
@connected
def unload(client: Client, /, name: str, version: str, as_json: bool) -> None:
    """Free VERSION of model NAME on every node."""
    client.unload(name, version)
    if as_json:
        print_json({"name": name, "version": version, "unloaded": True})
    else:
        click.echo(f"{name}:{version} is unloaded")
