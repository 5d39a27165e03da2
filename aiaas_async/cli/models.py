"""discover, models."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from aiaas_async.cli.aliases import shares
from aiaas_async.cli.arguments import amounts, apart, at_most_one, needs
from aiaas_async.cli.options import connected, json_option
from aiaas_async.cli.output import ended, print_json, print_table
from aiaas_async.errors import InvalidError
from aiaas_async.names import clip

if TYPE_CHECKING:
    from aiaas_async.client import Client


@click.command()
@click.argument("name", required=False)
@click.argument("version", required=False)
@click.option("--alias", help="What this alias points at.")
@click.option("-i", "--input", "inputs", multiple=True, help="Takes an input of this name.")
@click.option("-o", "--output", "outputs", multiple=True, help="Has an output of this name.")
@click.option("--resource", multiple=True, metavar="NAME=AMOUNT", help="Budget it must fit.")
@click.option("--tag", "tags", multiple=True, help="Has this tag.")
@click.option("--metric", multiple=True, metavar="BOUND", help="Say 'accuracy>=0.9'.")
@click.option("--runtime", help="numpy, onnx, or one of the settings'.")
@click.option("--state", help="registered, ready or corrupt.")
@click.option("--limit", type=int, help="At most so many.")
@json_option
@connected
def discover(client: Client, /, as_json: bool, **conditions: Any) -> None:
    """Find versions by NAME, VERSION (exact, or like ">=1.0,<2"), and what they can do."""
    if conditions["name"] is not None:
        conditions["name"], conditions["version"] = apart(conditions["name"], conditions["version"])
    query = {name: value for name, value in conditions.items() if value not in (None, ())}
    if "resource" in query:
        query["resources"] = amounts(query.pop("resource"), "resources")
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
    found = re.fullmatch(r"([\w.-]+)\s*=?\s*([<>]=?|[=!]=)\s*(\S+)", pair)
    if found is None:
        raise InvalidError(f"a metric is bounded as 'accuracy>=0.9', got {clip(pair)}")
    return found[1], found[2] + found[3]


def _metrics(metadata: dict[str, Any]) -> str:
    pairs = metadata.get("metrics", {}).items()
    return ", ".join(f"{name} {value:.4g}" for name, value in pairs)


@click.command()
@click.argument("name", required=False)
@click.argument("version", required=False)
@click.option("--release", is_flag=True, help="Let latest choose the VERSION, a candidate.")
@click.option("--delete", is_flag=True, help="Delete the version, or the whole model.")
@click.option("--yes", is_flag=True, help="Delete a whole model without being asked.")
@json_option
@connected
def models(
    client: Client,
    /,
    name: str | None,
    version: str | None,
    release: bool,
    delete: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """List all models, the versions of NAME, or everything about one VERSION.

    A candidate is a version whose gate did not hold: only who names it gets it, until it is
    released.
    """
    at_most_one({"--release": release, "--delete": delete})
    needs("--delete", delete, {"--yes": yes})
    needs("a NAME", name, {"--delete": delete})
    if name is not None:
        name, version = apart(name, version)
    needs("a VERSION", version, {"--release": release})
    if name is None:
        _list_models(client.models(), as_json)
    elif release and version is not None:
        _release(client, name, version, as_json)
    elif delete and version is not None:
        _delete_version(client, name, version, as_json)
    elif delete:
        _delete_model(client, name, yes, as_json)
    elif version is not None:
        print_json(client.version(name, version))
    elif as_json:
        print_json(client.model(name))
    else:
        _show_model(client, client.model(name))


def _release(client: Client, name: str, version: str, as_json: bool) -> None:
    was = client.version(name, version)
    record = client.release(name, was["version"])
    what = "is released" if was["candidate"] else "was no candidate"
    told = f"{name}:{record['version']} {what}; latest is {client.model(name)['latest']}"
    print_json(record) if as_json else click.echo(told)


def _delete_version(client: Client, name: str, version: str, as_json: bool) -> None:
    """`version` may be an alias, or latest: the one it stands for goes, and is named."""
    exact = client.version(name, version)["version"]
    client.delete_version(name, exact)
    gone = {"deleted": {"name": name, "version": exact}}
    print_json(gone) if as_json else click.echo(f"deleted {name}:{exact}")


def _delete_model(client: Client, name: str, yes: bool, as_json: bool) -> None:
    if not yes and not _asks():
        raise click.UsageError(f"nobody is there to be asked: to delete all of {name}, give --yes")
    versions = [each["version"] for each in client.model(name)["versions"]]
    count = "1 version" if len(versions) == 1 else f"{len(versions)} versions"
    if not yes:
        click.confirm(f"Delete {name}, all of it: {count}?", abort=True, err=True)
    client.delete_model(name)
    if as_json:
        print_json({"deleted": {"name": name, "version": None, "versions": versions}})
    else:
        click.echo(f"deleted {name}: {count}")


def _asks() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def _show_model(client: Client, model: dict[str, Any]) -> None:
    pointed: dict[str, list[str]] = {}
    for alias in model["aliases"]:
        record = client.alias(model["name"], alias)
        shared = shares(record)
        text = f"{alias} ({', '.join(shared)})" if shared else alias
        pointed.setdefault(record["version"], []).append(text)
    if model["latest"]:
        pointed.setdefault(model["latest"], []).append("latest")
    rows = [
        (v["version"], v["state"], ", ".join(pointed.get(v["version"], [])), _remark(v))
        for v in model["versions"]
    ]
    print_table(("version", "state", "aliases", "remark"), rows, "no versions")


def _remark(version: dict[str, Any]) -> str:
    """What the state alone does not say."""
    until, held = version["quarantined_until"], version["candidate"]
    remarks = [version["reason"] and ended(version["reason"], until)]
    if held is not None:
        remarks.append(f"candidate for {held['alias']}: {held['reason']}")
    return "; ".join(filter(None, remarks))


def _list_models(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [
        (m["name"], m["latest"], len(m["versions"]), ", ".join(m["aliases"]), _trouble(m))
        for m in found
    ]
    empty = "no models yet; `aiaas push NAME VERSION PATH` or `aiaas train` makes one"
    print_table(("model", "latest", "versions", "aliases", "remark"), rows, empty)


def _trouble(model: dict[str, Any]) -> str:
    """Which versions are not what one would think."""
    found: dict[str, list[str]] = {}
    for each in model["versions"]:
        what = "candidate" if each["candidate"] and each["state"] == "ready" else each["state"]
        if what != "ready":
            found.setdefault(what, []).append(each["version"])
    return "; ".join(f"{what}: {', '.join(versions)}" for what, versions in found.items())
