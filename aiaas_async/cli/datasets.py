"""datasets, ingest."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiaas_async.cli.arguments import at_most_one, needs
from aiaas_async.cli.options import connected, json_option
from aiaas_async.cli.output import print_json, print_table, size
from aiaas_async.cli.progress import step_bar
from aiaas_async.errors import AiaasError, ConflictError, InvalidError

if TYPE_CHECKING:
    from aiaas_async.client import Client


@click.command()
@click.argument("name", required=False)
@click.option("--delete", is_flag=True, help="Delete the data set; with --key that item alone.")
@click.option("--compact", is_flag=True, help="Give back what replaced and deleted items take.")
@click.option("--key", help="Show the item of this key, in JSON.")
@click.option("--rows", metavar="START:STOP", help="Show items in the order of arrival, in JSON.")
@json_option
@connected
def datasets(
    client: Client,
    /,
    name: str | None,
    delete: bool,
    compact: bool,
    key: str | None,
    rows: str | None,
    as_json: bool,
) -> None:
    """List data sets, or show the columns, placement and balance of NAME."""
    flags = {"--delete": delete, "--compact": compact, "--key": key, "--rows": rows}
    needs("the NAME of a data set", name, flags)
    at_most_one({flag: given for flag, given in flags.items() if flag != "--key"})
    at_most_one({flag: given for flag, given in flags.items() if flag != "--delete"})
    if name is None:
        _list(client.datasets(), as_json)
    elif delete:
        _delete(client, name, key, as_json)
    elif compact:
        freed = client.compact_dataset(name)["freed_bytes"]
        given_back = f"{name}: {size(freed)} given back"
        print_json({"name": name, "freed": freed}) if as_json else click.echo(given_back)
    elif key is not None:
        print_json(_plain(client.get_item(name, key)))
    elif rows is not None:
        print_json(_plain(client.items_range(name, *_range(rows))))
    elif as_json:
        print_json(client.dataset(name))
    else:
        _show(name, client.dataset(name))


def _delete(client: Client, name: str, key: str | None, as_json: bool) -> None:
    gone: dict[str, Any] = {"deleted": name}
    if key is None:
        client.delete_dataset(name)
        told = f"deleted data set {name}"
    else:
        client.delete_item(name, key)
        gone["key"], told = key, f"deleted item {key} of {name}"
    print_json(gone) if as_json else click.echo(told)


def _range(rows: str) -> tuple[int, int]:
    start, _, stop = rows.partition(":")
    if not start.isdecimal() or not stop.isdecimal():
        raise click.UsageError(f"--rows takes START:STOP, say 0:10, got {rows}")
    return int(start), int(stop)


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """An item or a page with its arrays as lists; a value without a shape is a number already."""
    columns = facts["columns"].items()
    shown = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in columns}
    return {**facts, "columns": shown}


def _show(name: str, facts: dict[str, Any]) -> None:
    click.echo(f"{name}: {facts['count']} items, balance {facts['balance']:.3f}")
    click.echo(f"columns: {_columns(facts)}\ndigest: {facts['digest']}")
    taken, waste = size(facts["disk_bytes"]), size(facts["reclaimable_bytes"])
    click.echo(f"on disk: {taken}, of which --compact gives back {waste}")
    if (wanting := _wanting(facts)) is not None:
        click.echo(wanting)
    rows = [(node, n["rows"], size(n["bytes"])) for node, n in facts["nodes"].items()]
    print_table(("node", "rows", "size"), rows, "no nodes")


def _list(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [(f["name"], *_how_many(f), _columns(f)) for f in found]
    empty = "no data sets yet; `aiaas ingest NAME FILE.npz` makes one"
    print_table(("data set", "items", "copies", "columns"), rows, empty)
    for facts in found:
        if "error" in facts:
            click.echo(f"{facts['name']} is damaged: {facts['error']}", err=True)


def _how_many(facts: dict[str, Any]) -> tuple[str, str]:
    """Items and copies; none is known of a data set that is damaged."""
    return ("?", "?") if "error" in facts else (str(facts["count"]), _copies(facts))


def _copies(facts: dict[str, Any]) -> str:
    there, wanted = facts["copies"], facts["replication"]
    return str(there) if there == wanted else f"{there} of {wanted}"


def _wanting(facts: dict[str, Any]) -> str | None:
    """What keeps a data set from having all the copies that were asked for: one lies on each node
    at most. None where it has them."""
    there, wanted = facts["copies"], facts["replication"]
    if there == wanted:
        return None
    nodes, copies = ("node", "copy") if there == 1 else ("nodes", "copies")
    return f"replication {wanted}, but only {there} {nodes}: {there} {copies} until more join"


def _columns(facts: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {column['dtype']}{list(column['shape'])}"
        for name, column in facts["columns"].items()
    )


@click.command()
@click.argument("name")
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)
@click.option("--replication", type=int, default=1, show_default=True, help="Copies of each item.")
@json_option
@connected
def ingest(client: Client, /, name: str, file: Path, replication: int, as_json: bool) -> None:
    """Upload the arrays of FILE (.npz; - is standard input) as columns of data set NAME.

    Each array is [items, …]; an array of texts called "keys" names the items. Without it an item's
    key is made of its content, so that equal items are stored once.
    """
    from aiaas_async.client.datasets import check_items  # noqa: PLC0415 - numpy, once it is needed

    columns, keys = _read(file)
    check_items(columns, keys)  # what cannot be stored leaves no empty data set behind
    declared = _declare(client, name, columns, replication)
    if (wanting := _wanting(declared)) is not None:
        click.echo(wanting, err=True)
    try:
        with step_bar(name) as report:
            facts = client.put_items(
                name, columns, keys, progress=lambda sent, total: report(sent, total, "items")
            )
    except AiaasError:
        if declared["created"]:
            _take_back(client, name)
        raise
    except KeyboardInterrupt:
        click.echo(f"what was stored stays in {name}; the same command stores the rest", err=True)
        raise
    if as_json:
        print_json(facts)
    else:
        click.echo(
            f"{name}: {facts['written']} items written, {facts['replaced']} replaced, "
            f"{facts['repeated']} repeated"
        )
        if facts["repeated"] and keys is None:
            click.echo(
                'equal items are stored once; to keep them all, give an array of texts "keys"',
                err=True,
            )


def _take_back(client: Client, name: str) -> None:
    """Delete a data set of ours into which nothing came; what has items stays, whoever put them."""
    with suppress(AiaasError):
        client.delete_dataset(name, only_empty=True)


def _declare(
    client: Client, name: str, columns: dict[str, Any], replication: int
) -> dict[str, Any]:
    """Make the data set, unless it is there as it is wanted."""
    wanted = {n: {"dtype": a.dtype.name, "shape": list(a.shape[1:])} for n, a in columns.items()}
    try:
        return client.put_dataset(name, wanted, replication=replication)
    except ConflictError as error:
        facts = client.dataset(name)
        kept = f"{_columns(facts)} in {facts['replication']}"
        given = f"{_columns({'columns': dict(sorted(wanted.items()))})} in {replication}"
        raise ConflictError(f"{error.message} (there: {kept}; given: {given})") from error


def _read(file: Path) -> tuple[dict[str, Any], list[str] | None]:
    import numpy as np  # noqa: PLC0415 - only for arrays

    piped = str(file) == "-"
    where = "standard input" if piped else str(file)
    try:
        # numpy would leave a file open that it cannot read.
        opened = io.BytesIO(sys.stdin.buffer.read()) if piped else file.open("rb")
        with opened as source, np.load(source, allow_pickle=False) as arrays:
            columns = {name: arrays[name] for name in arrays.files}
    except MemoryError:
        raise InvalidError(f"{where} holds more than fits into memory") from None
    except Exception:  # of a broken header numpy raises a dozen kinds, tokenize's as well
        raise InvalidError(
            f"{where} is no .npz file of number arrays, or it is damaged: make one with numpy.savez"
        ) from None
    keys = columns.pop("keys", None)
    if not columns:
        raise InvalidError(f"{where} has no arrays")
    return columns, None if keys is None else [str(key) for key in keys.tolist()]
