"""train, jobs."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from aiaas_async.cli.arguments import apart, at_most_one, model_of, needs, read_json, required
from aiaas_async.cli.options import connected, json_option
from aiaas_async.cli.output import print_json, print_table
from aiaas_async.cli.progress import step_bar
from aiaas_async.errors import AiaasError, CancelledJobError, InvalidError
from aiaas_async.names import clip
from aiaas_async.schedule.assign import ASSIGNMENTS

if TYPE_CHECKING:
    from aiaas_async.client import Client

NOT_PROMOTED = 3  # the version is there, the alias did not move: neither success nor failure
_GO_ON = "`aiaas jobs {} --resume` lets it go on"
_AGAIN = "`aiaas jobs {} --follow` shows it again"
_SERVER_GONE = frozenset({"unreachable", "disconnected"})  # of the client, which is slow to import
_SHOWN = ("loss", "accuracy", "val_loss", "val_accuracy")


@click.command()
@click.argument("model")
@click.argument("version", required=False, metavar="VERSION")
@click.option("--dataset", required=True, help="Data set to train on.")
@click.option("--graph", metavar="JSON|@FILE", help="Layer graph to train from the start.")
@click.option("--parent", metavar="NAME:VERSION", help="Version to train further.")
@click.option(
    "--method",
    type=click.Choice(["gd", "sgd", "distributed"]),
    help="Full batch, mini-batches, or those over several nodes.",
)
@click.option("--nodes", type=int, help="Nodes of a distributed run; default: all.")
@click.option("--epochs", type=int, help="Times that every item is learned from.")
@click.option("--batch-size", type=int, help="Items of a step, over all nodes.")
@click.option("--learning-rate", type=float, help="How far a step goes.")
@click.option("--optimizer", type=click.Choice(["sgd", "adam", "adamw"]), help="How it goes.")
@click.option("--seed", type=int, help="Of weights and order: equal seeds give equal runs.")
@click.option("--target", help="Column that holds what to predict.")
@click.option("--plan", metavar="JSON|@FILE", help="Further fields of the training plan.")
@click.option("--alias", help="Point this alias at the result.")
@click.option(
    "--gate", metavar="CONDITION", help='Move the alias only if, say, "val_accuracy >= 0.97".'
)
@click.option("--detach", is_flag=True, help="Start the job and return.")
@json_option
@connected
def train(
    client: Client,
    /,
    model: str,
    version: str | None,
    dataset: str,
    graph: str | None,
    parent: str | None,
    plan: str | None,
    alias: str | None,
    gate: str | None,
    detach: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """Train VERSION of MODEL on a data set; the result is committed when it is done.

    Ends with status 3 if that is so, but the --alias did not move: the gate does not hold, the
    version cannot be loaded, or somebody else moved the alias meanwhile.

    Ctrl-C detaches: the job goes on, and `aiaas jobs ID --follow` shows it again.
    """
    name, version = apart(model, version)
    needs("an --alias", alias, {"--gate": gate})
    given = {name: value for name, value in fields.items() if value is not None}
    request: dict[str, Any] = {"plan": {**(read_json(plan, "--plan") if plan else {}), **given}}
    if graph is not None:
        request["graph"] = read_json(graph, "--graph")
    if parent is not None:
        request["parent"] = parent
    if alias is not None and gate is not None:
        request["register_as"] = {"alias": alias, "gate": gate}
    elif alias is not None:
        request["alias"] = alias
    job = client.train(
        model=required(name, "MODEL"),
        version=required(version, "VERSION"),
        dataset=dataset,
        **request,
    )
    _started(client, job, detach, as_json)


def _started(client: Client, job: dict[str, Any], detach: bool, as_json: bool) -> None:
    """A job that was just accepted: follow it to its end, or say that it is on its way."""
    if not detach:
        _finish(client, job["job"], as_json)
    elif as_json:
        print_json(job)
    else:
        click.echo(f"job {job['job']} is {job['state']}")


def _finish(client: Client, job_id: str, as_json: bool) -> None:
    """Follow a job with a bar; then its outcome, and the status it deserves."""
    job = _followed(client, job_id)
    if job is None:
        return
    result = job["result"]
    if as_json:
        print_json(job)
    elif job["kind"] == "batch":
        click.echo(_batch_result(result))
    else:
        epochs, steps = _count(result["epochs"], "epoch"), _count(result["steps"], "step")
        click.echo(
            f"{result['model']}:{result['version']} committed after {epochs}, "
            f"{steps}: {_remark(result['metrics'])}{_verified(result.get('verified'))}"
        )
    if result.get("promoted") is False:
        asked = job["request"].get("register_as") or job["request"]
        kept = f"; {result['model']}:{result['version']} is a candidate"
        told = f"{result['reason']}{kept if result.get('candidate') else ''}"
        click.echo(f"error: the alias {asked['alias']} stays: {told}", err=True)
        sys.exit(NOT_PROMOTED)


def _verified(found: dict[str, Any] | None) -> str:
    """What the check against a run on one node found, if the plan asked for it."""
    if found is None:
        return ""
    said = "as" if found["passed"] else "NOT as"
    return (
        f"; the first {_count(found['steps'], 'step')} {said} on one node: weights differ by "
        f"{found['largest_difference']:.2g} at most ({found['tolerance']:g} allowed)"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _followed(client: Client, job_id: str) -> dict[str, Any] | None:
    """The job when it is over, shown with a bar until then; None when Ctrl-C detached."""
    try:
        with step_bar(f"job {job_id}") as report:
            for event in client.follow(job_id):
                if event.kind == "progress" and (at := _at(event.data)) is not None:
                    report(*at)
        return client.wait(job_id)
    except KeyboardInterrupt:
        click.echo(f"detached; {_AGAIN.format(job_id)}", err=True)
        return None
    except CancelledJobError as error:
        told = f"{error.message}; {_GO_ON.format(job_id)}"
        raise CancelledJobError(told, error.details) from error
    except AiaasError as error:
        if error.code not in _SERVER_GONE:
            raise
        told = f"{error.message}; the job goes on with the server, and {_AGAIN.format(job_id)}"
        raise type(error)(told, error.details) from error


def _at(data: dict[str, Any]) -> tuple[int, int, str] | None:
    """How far a training or a batch is; None for another kind of progress."""
    if "total" in data:
        return data["done"], data["total"], "items"
    if "step" in data:
        epochs = f"steps, epoch {data['epoch']} of {data['epochs']}, {_remark(data)}"
        return data["step"], data["steps"], epochs.rstrip(", ")
    return None


@click.command()
@click.argument("model")
@click.argument("dataset")
@click.option("--into", "output_dataset", help="Name of the data set for the results.")
@click.option("-o", "--output", "outputs", multiple=True, help="Only these outputs.")
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    metavar="COLUMN=INPUT",
    help="Which column is which input, where the names differ.",
)
@click.option("--assignment", type=click.Choice(ASSIGNMENTS), help="Which node gets a task.")
@click.option("--task-items", type=int, help="Items of one task.")
@click.option("--priority", type=int, help="-100 to 100; calls have 0, a batch -1.")
@click.option("--detach", is_flag=True, help="Start the job and return.")
@json_option
@connected
def batch(
    client: Client, /, model: str, dataset: str, detach: bool, as_json: bool, **options: Any
) -> None:
    """Run MODEL (name, name:version or name:alias) over every item of DATASET."""
    name, version = model_of(model)
    options["outputs"] = list(options["outputs"]) or None
    options["inputs"] = dict(map(_fed, options["inputs"])) or None
    job = client.batch(name, dataset, version=version, **options)
    _started(client, job, detach, as_json)


def _fed(pair: str) -> tuple[str, str]:
    column, _, name = pair.partition("=")
    if not column or not name:
        raise InvalidError(f"inputs are given as COLUMN=INPUT, got {clip(pair)}")
    return column, name


def _batch_result(result: dict[str, Any]) -> str:
    left_out = result.get("left_out")
    remark = f"; left out, being no numbers: {', '.join(left_out)}" if left_out else ""
    return (
        f"{result['done']} items into {result['output_dataset']} in {result['seconds']:.1f} s, "
        f"{result['items_per_s']:.0f} a second; {_count(result['tasks'], 'task')}, "
        f"{result['stolen']} stolen, {result['retried']} retried{remark}"
    )


def _remark(facts: dict[str, Any]) -> str:
    return " ".join(f"{name} {facts[name]:.4g}" for name in _SHOWN if name in facts)


@click.command()
@click.argument("job_id", required=False)
@click.option("--follow", is_flag=True, help="Show progress until it ends.")
@click.option("--cancel", is_flag=True, help="End the job.")
@click.option("--resume", is_flag=True, help="Let a cancelled or failed job go on; follow it.")
@click.option("--detach", is_flag=True, help="Resume the job and return.")
@json_option
@connected
def jobs(client: Client, /, job_id: str | None, detach: bool, as_json: bool, **asked: bool) -> None:
    """List jobs, or show, follow, cancel or resume one.

    A training that is resumed goes on from its last checkpoint as if it had never been stopped; a
    batch does the items that have no result yet, or were put since it was accepted.
    """
    flags: dict[str, Any] = {f"--{what}": given for what, given in asked.items()}
    needs("a JOB_ID", job_id, flags)
    needs("--resume", asked["resume"], {"--detach": detach})
    at_most_one(flags)
    if job_id is None:
        _list(client.jobs(), as_json)
    elif asked["cancel"]:
        _cancel(client, job_id, as_json)
    elif asked["resume"]:
        _started(client, client.resume(job_id), detach, as_json)
    elif asked["follow"]:
        _finish(client, job_id, as_json)
    else:
        print_json(client.job(job_id))


def _cancel(client: Client, job_id: str, as_json: bool) -> None:
    before = client.job(job_id)["state"]
    job = client.cancel(job_id)
    if as_json:
        print_json(job)
        return
    already = " already" if job["state"] == before else ""
    click.echo(f"job {job_id} has ended{already}: {job['state']}")
    if job["state"] == "cancelled":
        if job["error"] is not None:
            click.echo(job["error"]["message"])
        click.echo(_GO_ON.format(job_id))


def _list(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [
        (
            job["job"],
            job["kind"],
            job["state"],
            f"{job['request'].get('model')}:{job['request'].get('version')}",
            _seconds(job),
            _standing(job),
        )
        for job in found
    ]
    print_table(("job", "kind", "state", "result", "seconds", "progress"), rows, "no jobs")


def _standing(job: dict[str, Any]) -> str:
    """Why it failed, or how far it is."""
    if job["error"] is not None:
        return str(job["error"]["message"])
    progress = job["progress"]
    if "total" in progress:
        return f"{progress['done']} of {progress['total']} items"
    return _remark(progress)


def _seconds(job: dict[str, Any]) -> str | None:
    if job["started_at"] is None:
        return None
    return f"{(job['finished_at'] or time.time()) - job['started_at']:.1f}"
