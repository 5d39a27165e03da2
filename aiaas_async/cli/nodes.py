"""nodes, ring."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from aiaas_async.cli.arguments import at_most_one, needs
from aiaas_async.cli.options import REFUSED, connected, json_option
from aiaas_async.cli.output import ended, print_json, print_table, size

if TYPE_CHECKING:
    from aiaas_async.client import Client


@click.command()
@click.argument("node_id", required=False)
@click.option("--join", is_flag=True, help="Add a node, of this id or the next free one.")
@click.option("--remove", is_flag=True, help="Drain the node and take it off the ring.")
@click.option("--force", is_flag=True, help="Remove it even where a deployment needs it.")
@json_option
@connected
def nodes(
    client: Client, /, node_id: str | None, join: bool, remove: bool, force: bool, as_json: bool
) -> None:
    """List the nodes of the ring, or everything about one; add and remove nodes."""
    at_most_one({"--join": join, "--remove": remove})
    needs("a NODE_ID", node_id, {"--remove": remove})
    if force and not remove:
        raise click.UsageError("--force goes with --remove")
    if join or remove:
        _change(client, node_id, join=join, force=force, as_json=as_json)
        return
    if node_id is not None:
        print_json(client.node(node_id))
        return
    found = client.nodes()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            node["id"],
            node["state"],
            node["load"],
            f"{size(node['memory']['used'])} of {size(node['memory']['budget'])}",
            node["statistics"]["rows"],
            ", ".join(node["loaded"]),
        )
        for node in found
    ]
    print_table(("node", "state", "load", "memory", "rows", "loaded"), rows, "no nodes")
    # Nodes hear of it from each other: what one refuses, all refuse.
    for held in found[0]["quarantined"] if found else []:
        click.echo(f"{held['version']} is quarantined {ended(held['reason'], held['until'])}")


def _change(client: Client, node_id: str | None, *, join: bool, force: bool, as_json: bool) -> None:
    facts = client.join_node(node_id) if join else client.remove_node(node_id or "", force=force)
    if as_json:
        print_json(facts)
    else:
        _tell_change(facts, "joined" if join else "left")
    if "error" in facts["moved"]:
        sys.exit(REFUSED)


def _tell_change(facts: dict[str, Any], what: str) -> None:
    moved = facts["moved"]
    unmoved = moved.get("error")
    how_many = "" if unmoved else f"; {moved['copies']} items moved"
    click.echo(f"{facts['id']} {what}{how_many}")
    if unmoved:
        click.echo(
            f"error: its data could not move: {unmoved}; it is read where it is, and follows when "
            "the next node joins or leaves, or at the next start",
            err=True,
        )
    if reason := facts.get("forgotten_at_restart"):
        click.echo(f"the next start will not know of it: {reason}", err=True)
    for deployment, reason in facts.get("failed", {}).items():
        click.echo(f"deployment {deployment} has failed: {reason}", err=True)


@click.command()
@click.argument("key")
@json_option
@connected
def ring(client: Client, /, key: str, as_json: bool) -> None:
    """Explain where KEY goes: its owner, the loads, and what would change if a node left."""
    del as_json  # it is JSON anyway
    print_json(client.ring(key))
