"""register, push, discover, models, alias."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiaas_async.cli.options import connected, json_option
from aiaas_async.cli.output import print_json, print_table, size, transfer_bar
from aiaas_async.errors import InvalidError
from aiaas_async.names import clip

if TYPE_CHECKING:
    from aiaas_async.client import Client


def read_json(text: str, what: str) -> dict[str, Any]:
    """A JSON object from `text`, or from the file that "@path" names."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text()
        except OSError as error:
            raise InvalidError(f"{what}: {text[1:]} cannot be read: {error.strerror}") from error
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidError(f"{what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidError(f"{what} must be a JSON object, got {clip(value)}")
    return value


def _amounts(pairs: tuple[str, ...], what: str) -> dict[str, float]:
    found = {}
    for pair in pairs:
        name, _, amount = pair.partition("=")
        try:
            found[name] = float(amount)
        except ValueError:
            raise InvalidError(f"{what} are given as name=number, got {clip(pair)}") from None
    return found


@click.command()
@click.argument("name")
@click.argument("version")
@click.option("-i", "--input", "inputs", multiple=True, required=True, help="Name of an input.")
@click.option("-o", "--output", "outputs", multiple=True, required=True, help="Name of an output.")
@click.option("--resource", multiple=True, metavar="NAME=AMOUNT", help="cpu=4, memory=16 (GiB).")
@click.option("--tag", "tags", multiple=True)
@click.option("--description", default="")
@click.option("--metadata", metavar="JSON|@FILE", help="Further fields of the metadata.")
@json_option
@connected
def register(
    client: Client,
    /,
    name: str,
    version: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    resource: tuple[str, ...],
    tags: tuple[str, ...],
    description: str,
    metadata: str | None,
    as_json: bool,
) -> None:
    """Register the metadata of VERSION of model NAME."""
    fields: dict[str, Any] = {
        **(read_json(metadata, "--metadata") if metadata else {}),
        "name": name,
        "version": version,
        "inputs": list(inputs),
        "outputs": list(outputs),
    }
    if resource:
        fields["resources"] = _amounts(resource, "resources")
    if tags:
        fields["tags"] = list(tags)
    if description:
        fields["description"] = description
    stored = client.register(fields)
    if as_json:
        print_json(stored)
    else:
        click.echo(
            f"registered {name}:{version}; `aiaas push {name} {version} PATH` makes it ready"
        )


@click.command()
@click.argument("name")
@click.argument("version")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--metadata", metavar="JSON|@FILE", help="Fields of the metadata.")
@click.option("--alias", help="Point this alias at the version.")
@json_option
@connected
def push(
    client: Client,
    /,
    name: str,
    version: str,
    path: Path,
    metadata: str | None,
    alias: str | None,
    as_json: bool,
) -> None:
    """Register, upload and commit PATH, a file or a folder, as VERSION of model NAME.

    A folder holds graph.json (a layer graph) and *.safetensors, or one *.onnx file.
    """
    fields = read_json(metadata, "--metadata") if metadata else None
    with transfer_bar(f"{name}:{version}") as report:
        record = client.push(name, version, path, metadata=fields, progress=report)
    if alias:
        client.set_alias(name, alias, version)
    if as_json:
        print_json(record)
    else:
        nbytes = sum(entry["size"] for entry in record["files"])
        click.echo(f"{name}:{version} is {record['state']}: {size(nbytes)}, {record['digest']}")


@click.command()
@click.argument("name", required=False)
@click.argument("version", required=False)
@click.option("--alias")
@click.option("-i", "--input", "inputs", multiple=True, help="Takes an input of this name.")
@click.option("-o", "--output", "outputs", multiple=True, help="Has an output of this name.")
@click.option("--resource", multiple=True, metavar="NAME=AMOUNT", help="Budget it must fit.")
@click.option("--tag", "tags", multiple=True)
@click.option("--metric", multiple=True, metavar="BOUND", help="accuracy>=0.9")
@click.option("--runtime")
@click.option("--state")
@click.option("--limit", type=int)
@json_option
@connected
def discover(client: Client, /, as_json: bool, **conditions: Any) -> None:
    """Find versions by NAME, VERSION (exact, or like ">=1.0,<2"), and what they can do."""
    query = {name: value for name, value in conditions.items() if value not in (None, ())}
    if "resource" in query:
        query["resources"] = _amounts(query.pop("resource"), "resources")
    if "metric" in query:
        query["metrics"] = dict(map(_bound, query.pop("metric")))
    found = client.discover(
        **{name: list(v) if isinstance(v, tuple) else v for name, v in query.items()}
    )
    if as_json:
        print_json(found)
        return
    rows = [
        (m["name"], m["version"], m["state"], m["score"], _metrics(m["metadata"]))
        for m in found["matches"]
    ]
    print_table(("model", "version", "state", "score", "metrics"), rows, "nothing matches")


def _bound(pair: str) -> tuple[str, str]:
    """`accuracy>=0.9`, or `accuracy=>=0.9`."""
    found = re.fullmatch(r"([\w.-]+)\s*=?\s*([<>]=?|==)\s*(\S+)", pair)
    if found is None:
        raise InvalidError(f"a metric is bounded as 'accuracy>=0.9', got {clip(pair)}")
    return found[1], found[2] + found[3]


def _metrics(metadata: dict[str, Any]) -> str:
    pairs = metadata.get("metrics", {}).items()
    return ", ".join(f"{name} {value:.4g}" for name, value in pairs)


@click.command()
@click.argument("name", required=False)
@click.argument("version", required=False)
@click.option("--delete", is_flag=True, help="Delete the version, or the whole model.")
@json_option
@connected
def models(
    client: Client, /, name: str | None, version: str | None, delete: bool, as_json: bool
) -> None:
    """List all models, the versions of NAME, or everything about one VERSION."""
    if delete:
        _delete(client, name, version, as_json)
    elif version is not None and name is not None:
        print_json(client.version(name, version))
    elif name is not None:
        _show_model(client.model(name), as_json)
    else:
        _list_models(client.models(), as_json)


def _delete(client: Client, name: str | None, version: str | None, as_json: bool) -> None:
    if name is None:
        raise click.UsageError("--delete needs a NAME")
    if version is None:
        client.delete_model(name)
    else:
        client.delete_version(name, version)
    if as_json:
        print_json({"deleted": {"name": name, "version": version}})
    else:
        click.echo(f"deleted {name}{f':{version}' if version else ''}")


def _show_model(model: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(model)
        return
    pointed: dict[str, list[str]] = {}
    for alias, version in model["aliases"].items():
        pointed.setdefault(version, []).append(alias)
    if model["latest"]:
        pointed.setdefault(model["latest"], []).append("latest")
    rows = [
        (v["version"], v["state"], ", ".join(pointed.get(v["version"], [])))
        for v in model["versions"]
    ]
    print_table(("version", "state", "aliases"), rows, "no versions")


def _list_models(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [(m["name"], m["latest"], len(m["versions"]), ", ".join(m["aliases"])) for m in found]
    empty = "no models yet; `aiaas push NAME VERSION PATH` or `aiaas train` makes one"
    print_table(("model", "latest", "versions", "aliases"), rows, empty)


@click.command()
@click.argument("name")
@click.argument("alias")
@click.argument("version", required=False)
@click.option("--canary", metavar="VERSION", help="Share the calls with this version.")
@click.option("--weight", type=float, help="The canary's share, 0 to 1.")
@click.option("--shadow", metavar="VERSION", help="Send this version a copy of each call.")
@click.option("--rollback", is_flag=True, help="Go back to the version before.")
@click.option("--delete", is_flag=True, help="Delete the alias.")
@json_option
@connected
def alias(
    client: Client,
    /,
    name: str,
    alias: str,
    version: str | None,
    rollback: bool,
    delete: bool,
    as_json: bool,
    **traffic: Any,
) -> None:
    """Point ALIAS of model NAME at VERSION, and share its calls."""
    if delete:
        client.delete_alias(name, alias)
        if as_json:
            print_json({"deleted": {"name": name, "alias": alias}})
        else:
            click.echo(f"deleted alias {alias} of {name}")
        return
    if rollback:
        record = client.roll_back_alias(name, alias)
    elif version is None:
        raise click.UsageError("give a VERSION, --rollback or --delete")
    else:
        if traffic["canary"] is not None and traffic["weight"] is None:
            raise click.UsageError("--canary needs a --weight, its share of the calls: say 0.1")
        record = client.set_alias(name, alias, version, **traffic)
    if as_json:
        print_json(record)
    else:
        shared = "".join(
            f", {what} {record[what]}" for what in ("canary", "weight", "shadow") if what in record
        )
        click.echo(f"{name}:{alias} is {record['version']}{shared} (revision {record['revision']})")
