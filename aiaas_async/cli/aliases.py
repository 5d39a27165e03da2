"""alias: show one, point it at a version, share its calls, roll it back, delete it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aiaas_async.cli.arguments import apart, at_most_one, needs, required
from aiaas_async.cli.options import connected, json_option
from aiaas_async.cli.output import print_json

if TYPE_CHECKING:
    from aiaas_async.client import Client


@click.command()
@click.argument("name")
@click.argument("alias", required=False, metavar="ALIAS")
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
    alias: str | None,
    version: str | None,
    rollback: bool,
    delete: bool,
    as_json: bool,
    **traffic: Any,
) -> None:
    """Show ALIAS of model NAME, or point it at VERSION and share its calls.

    NAME ALIAS may be one word, NAME:ALIAS.
    """
    model, alias, version = apart(name, alias, version)
    _check(version, rollback, delete, traffic)
    where = (required(model, "NAME"), required(alias, "ALIAS"))
    if delete:
        client.delete_alias(*where)
        gone = {"deleted": {"name": where[0], "alias": where[1]}}
        print_json(gone) if as_json else click.echo(f"deleted alias {where[1]} of {where[0]}")
        return
    if rollback:
        record = client.roll_back_alias(*where)
    elif version is not None:
        record = client.set_alias(*where, version, **traffic)
    else:
        record = client.alias(*where)
    if as_json:
        print_json(record)
        return
    shared = "".join(f", {each}" for each in shares(record))
    click.echo(f"{':'.join(where)} is {record['version']}{shared} (revision {record['revision']})")
    if version is None and not rollback and record["previous"]:
        click.echo(f"previous: {', '.join(reversed(record['previous']))}")


def _check(version: str | None, rollback: bool, delete: bool, traffic: dict[str, Any]) -> None:
    at_most_one({"VERSION": version, "--rollback": rollback, "--delete": delete})
    needs("a VERSION", version, {f"--{what}": value for what, value in traffic.items()})
    needs("--canary", traffic["canary"], {"--weight": traffic["weight"]})
    share = "--weight, its share of the calls: say 0.1"
    needs(share, traffic["weight"], {"--canary": traffic["canary"]})


def shares(record: dict[str, Any]) -> list[str]:
    """Who else gets calls of an alias."""
    return [f"{what} {record[what]}" for what in ("canary", "weight", "shadow") if what in record]
