"""deploy, deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aiaas_async.cli.arguments import at_most_one, model_of, needs
from aiaas_async.cli.options import connected, json_option
from aiaas_async.cli.output import ended, print_json, print_table, size

if TYPE_CHECKING:
    from aiaas_async.client import Client


@click.command()
@click.argument("model")
@click.option("--distributed", is_flag=True, help="Split it over several nodes.")
@click.option("--split", type=click.Choice(["pipeline", "tensor"]), help="How to split it.")
@click.option("--nodes", type=int, help="Nodes of a split; default: the fewest that hold it.")
@click.option("--replicas", type=int, help="Copies of a version that is not split.")
@click.option("--max-batch-size", type=int, help="Items computed at once, at most.")
@click.option("--max-delay-ms", type=float, help="How long a call may wait for company.")
@click.option("--cache-mb", type=int, help="MiB of answers to remember for equal inputs.")
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@json_option
@connected
def deploy(
    client: Client, /, model: str, distributed: bool, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Place MODEL (name, name:version or name:alias) on the nodes and keep it ready there.

    One that is deployed already is placed anew beside itself, then the traffic switches.
    """
    name, version = model_of(model)
    split = distributed or options["split"] is not None
    _check(distributed, options)
    asked: dict[str, Any] = {"version": version, **options}
    if split:
        asked["mode"] = "distributed"
    if dry_run:
        asked["dry_run"] = True
    found = client.deploy(name, **asked)
    if as_json:
        print_json(found)
        return
    if not dry_run:
        click.echo(f"{found['model']}:{found['version']} is {found['state']} as {found['id']}")
    _show(found["plan"])


def _check(distributed: bool, options: dict[str, Any]) -> None:
    split, replicas = options["split"], options["replicas"]
    at_most_one({"--replicas": replicas, "--split": split})
    at_most_one({"--replicas": replicas, "--distributed": distributed})
    parts = "--distributed or --split"
    needs(parts, distributed or split, {"--nodes": options["nodes"]})


def _show(plan: dict[str, Any]) -> None:
    rows = [
        (node["node"], size(node["bytes"]), size(node["free"]), _layers(node))
        for node in plan["nodes"]
    ]
    print_table(("node", "bytes", "of free", "layers"), rows, "no nodes")
    latency, rate = plan["expected_latency_ms"], plan["expected_items_per_s"]
    if latency is not None:
        click.echo(
            f"expected for a batch of {plan['max_batch_size']}: {latency:.1f} ms, "
            f"{rate:.0f} items/s"
        )


def _layers(node: dict[str, Any]) -> str:
    names = node.get("layers") or []
    text = ", ".join(map(str, names))
    return text if len(text) <= 60 else f"{names[0]} … {names[-1]} ({len(names)})"


@click.command()
@click.argument("deployment_id", required=False)
@click.option("--delete", is_flag=True, help="End the deployment.")
@json_option
@connected
def deployments(client: Client, /, deployment_id: str | None, delete: bool, as_json: bool) -> None:
    """List deployments, or show or end one."""
    needs("a DEPLOYMENT_ID", deployment_id, {"--delete": delete})
    if deployment_id is None:
        _list(client.deployments(), as_json)
    elif delete:
        client.undeploy(deployment_id)
        ended = f"deployment {deployment_id} ended"
        print_json({"deleted": deployment_id}) if as_json else click.echo(ended)
    else:
        print_json(client.deployment(deployment_id))


def _list(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = []
    for each in found:
        plan = each["plan"] or {"mode": "-", "nodes": []}
        nodes = ", ".join(node["node"] for node in plan["nodes"])
        how = plan.get("split", plan["mode"])
        version = f"{each['model']}:{each['version']}"
        reason = each["reason"] and ended(each["reason"], each["quarantined_until"])
        rows.append((each["id"], version, each["state"], how, reason or nodes))
    empty = "no deployments; `aiaas deploy MODEL` makes one"
    print_table(("deployment", "version", "state", "how", "nodes"), rows, empty)
