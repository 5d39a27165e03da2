"""call, load, unload."""

from __future__ import annotations

import io
import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from aiaas_async.cli.arguments import apart, model_of, parsed, required
from aiaas_async.cli.options import connected, json_option
from aiaas_async.cli.output import print_json
from aiaas_async.errors import InvalidError
from aiaas_async.names import LATEST, clip

if TYPE_CHECKING:
    from aiaas_async.client import Client
    from aiaas_async.client.answers import Timing

_NPY: Final = b"\x93NUMPY"
_SHORT: Final = 60


def _inputs(pairs: Iterable[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise InvalidError(f"inputs are given as name=JSON or name=@file, got {clip(pair)}")
        if name in given:
            raise InvalidError(f"input {name} is given twice")
        given[name] = _from_file(name, text[1:]) if text.startswith("@") else _json(text, name)
    return given


def _from_file(name: str, place: str) -> Any:
    """A file's JSON or .npy array; "-" is standard input."""
    where = "standard input" if place == "-" else place
    try:
        data = sys.stdin.buffer.read() if place == "-" else Path(place).read_bytes()
        return _array(data) if data.startswith(_NPY) else parsed(data)
    except OSError as error:
        raise InvalidError(f"input {name}: {where} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InvalidError(
            f"input {name}: {where} is neither JSON nor a .npy array, but other bytes: an array "
            "goes as a .npy file (numpy.save), everything else as JSON"
            + ("; of an .npz take one array" if place.endswith(".npz") else "")
        ) from None
    except ValueError as error:
        raise InvalidError(
            f"input {name}: {where} is neither JSON nor a .npy array: {error}"
        ) from error


def _array(data: bytes) -> Any:
    """A .npy array. Raises `ValueError`."""
    import numpy as np  # noqa: PLC0415 - only for arrays

    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except MemoryError:
        raise ValueError("its header announces more than fits into memory") from None
    except Exception as error:  # of a broken header numpy raises a dozen kinds, tokenize's as well
        raise ValueError(str(error)) from error


def _json(text: str, name: str) -> Any:
    try:
        return parsed(text)
    except ValueError as error:
        hint = ""
        if text[:1].isalpha() and len(text) <= _SHORT:
            said = shlex.quote(f"{name}={json.dumps(text, ensure_ascii=False)}")
            hint = f"; a text goes in quotes: {said}"
        raise InvalidError(f"input {name} is not JSON: {error}{hint}") from error


@click.command()
@click.argument("model")
@click.argument("inputs", nargs=-1, required=True, metavar="NAME=VALUE…")
@click.option("-o", "--output", "outputs", multiple=True, help="Only these outputs.")
@click.option("--key", help="Picks the node on the ring.")
@click.option("--timeout", type=float, metavar="SECONDS", help="How long to wait for it.")
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

    A value is JSON, @file.json, @file.npy for a numpy array, or @- for either on standard input.
    """
    name, version = model_of(model)
    answer = client.call(
        _inputs(inputs),
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
@click.argument("version", required=False)
@click.option("--pin", is_flag=True, help="Never evict it.")
@json_option
@connected
def load(client: Client, /, name: str, version: str | None, pin: bool, as_json: bool) -> None:
    """Load VERSION of model NAME onto the node its calls go to."""
    model, exact = _exact(client, name, version)
    facts = client.load(model, exact, pin=pin)
    if as_json:
        print_json({"name": model, "version": exact, **facts})
    else:
        click.echo(f"{model}:{exact} is on {facts['node']}{', pinned' if pin else ''}")


@click.command()
@click.argument("name")
@click.argument("version", required=False)
@json_option
@connected
def unload(client: Client, /, name: str, version: str | None, as_json: bool) -> None:
    """Free VERSION of model NAME on every node."""
    model, exact = _exact(client, name, version)
    ref = f"{model}:{exact}"
    holding = any(ref in node["loaded"] for node in client.nodes())
    client.unload(model, exact)
    if as_json:
        print_json({"name": model, "version": exact, "unloaded": holding})
    else:
        click.echo(f"{ref} is unloaded" if holding else f"{ref} was not loaded")


def _exact(client: Client, name: str, version: str | None) -> tuple[str, str]:
    """The version that "latest" or an alias stands for now, so that the answer names it."""
    model, version = apart(name, version)
    found = client.version(required(model, "NAME"), version or LATEST)
    return found["name"], found["version"]
