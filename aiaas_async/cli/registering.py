"""register, push."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiaas_async.cli.arguments import amounts, apart, read_json, required
from aiaas_async.cli.options import connected, json_option
from aiaas_async.cli.output import print_json, size
from aiaas_async.cli.progress import transfer_bar
from aiaas_async.errors import InvalidError
from aiaas_async.names import LATEST, check_name

if TYPE_CHECKING:
    from aiaas_async.client import Client


@click.command()
@click.argument("name")
@click.argument("version", required=False, metavar="VERSION")
@click.option("-i", "--input", "inputs", multiple=True, help="Name of an input.")
@click.option("-o", "--output", "outputs", multiple=True, help="Name of an output.")
@click.option("--resource", multiple=True, metavar="NAME=AMOUNT", help="cpu=4, memory=16 (GiB).")
@click.option("--tag", "tags", multiple=True, help="A word to find it by.")
@click.option("--description", default="", help="What it is, for people.")
@click.option("--metadata", metavar="JSON|@FILE", help="Further fields of the metadata.")
@json_option
@connected
def register(
    client: Client,
    /,
    name: str,
    version: str | None,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    resource: tuple[str, ...],
    tags: tuple[str, ...],
    description: str,
    metadata: str | None,
    as_json: bool,
) -> None:
    """Register the metadata of VERSION of model NAME."""
    model, version = apart(name, version)
    fields: dict[str, Any] = read_json(metadata, "--metadata") if metadata else {}
    fields |= {"name": model, "version": required(version, "VERSION")}
    for side, names in (("inputs", inputs), ("outputs", outputs)):
        if names:
            fields[side] = list(names)
        elif side not in fields:
            raise click.UsageError(f"Missing option '--{side[:-1]}', or {side!r} in --metadata.")
    if resource:
        fields["resources"] = amounts(resource, "resources")
    if tags:
        fields["tags"] = list(tags)
    if description:
        fields["description"] = description
    stored = client.register(fields)
    if as_json:
        print_json(stored)
    else:
        ref = f"{model}:{version}"
        click.echo(f"registered {ref}; `aiaas push {ref} PATH` makes it ready")


@click.command()
@click.argument("name")
@click.argument("version", required=False, metavar="VERSION")
@click.argument("path", required=False, metavar="PATH")
@click.option("--metadata", metavar="JSON|@FILE", help="Fields of the metadata.")
@click.option("--alias", help="Point this alias at the version.")
@json_option
@connected
def push(
    client: Client,
    /,
    name: str,
    version: str | None,
    path: str | None,
    metadata: str | None,
    alias: str | None,
    as_json: bool,
) -> None:
    """Register, upload and commit PATH, a file or a folder, as VERSION of model NAME.

    A folder holds graph.json (a layer graph) and *.safetensors, or one *.onnx file.
    """
    words = apart(name, version, path)
    model, version = required(words[0], "NAME"), required(words[1], "VERSION")
    source = Path(required(words[2], "PATH"))
    if not source.exists():
        raise click.UsageError(f"Path '{source}' does not exist.")
    if alias is not None:
        _check_alias(alias, version)
    fields = read_json(metadata, "--metadata") if metadata else None
    with transfer_bar(f"{model}:{version}") as report:
        record = client.push(model, version, source, metadata=fields, progress=report)
    if not as_json:
        nbytes = sum(entry["size"] for entry in record["files"])
        click.echo(f"{model}:{version} is {record['state']}: {size(nbytes)}, {record['digest']}")
    if alias is not None:
        client.set_alias(model, alias, version)
    if as_json:
        print_json(record)


def _check_alias(alias: str, version: str) -> None:
    """Now, not when the version is committed."""
    check_name(alias, "alias")
    if alias in (LATEST, version):
        what = "computed" if alias == LATEST else "the version itself"
        raise InvalidError(f"--alias {alias}: {alias!r} is {what}; choose another name")
