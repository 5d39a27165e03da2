"""`aiaas demo`: the whole story on real data, against a real server process.

Store a data set, train in a worker, find what came out by what it can do, call it with images it
has never seen.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from aiaas_async.cli.options import one_line_errors
from aiaas_async.cli.progress import step_bar, transfer_bar

if TYPE_CHECKING:
    from aiaas_async.client import Client
    from aiaas_async.wire.tensors import Array

REQUIRED_ACCURACY: Final = 0.97
_HELD_OUT: Final = 360  # of 1,797: a fifth
_SPLIT_SEED: Final = 1
_CALLS, _CONNECTIONS = 2000, 16
_NAME: Final = "image_classifier"


@click.command()
@click.option("--keep", is_flag=True, help="Leave the server up afterwards, until Ctrl-C.")
def demo(keep: bool) -> None:
    """Train a model on real handwritten digits, find it, and call it; in under a minute."""
    from aiaas_async.client import Client  # noqa: PLC0415
    from aiaas_async.testing import server  # noqa: PLC0415 - shown after --help

    started = time.monotonic()
    with (
        one_line_errors(),
        tempfile.TemporaryDirectory(prefix="aiaas-demo-") as folder,
        server(Path(folder) / "data", "--log-level", "warning") as running,
    ):
        _say(1, f"server at {running.url}, data in a temporary folder")
        with Client(running.url) as client:
            reached = _story(client, running.url)
        click.echo(f"\nall of it took {time.monotonic() - started:.0f} s")
        if keep:
            _wait(running.url)
    if reached < REQUIRED_ACCURACY:
        click.echo(f"the accuracy is below {REQUIRED_ACCURACY}", err=True)
        sys.exit(1)


def _story(client: Client, url: str) -> float:
    """Everything the demo shows; returns the accuracy on the images held out."""
    images, labels, held = _digits()
    _store(client, images, labels, held)
    _train(client)
    found = client.discover(
        inputs=["image"], outputs=["label"], tags=["digits"], metrics={"val_accuracy": ">=0.9"}
    )
    name, version = found["name"], found["version"]
    score = found["matches"][0]["score"]
    _say(4, f"asked for a classifier of digits: found {name}:{version} (score {score:.2f})")
    accuracy = _call(client, images[held], labels[held], name, version)
    rate = asyncio.run(_rate(url, images[held], name, version))
    _say(6, f"{rate:.0f} calls a second over {_CONNECTIONS} connections, one image each")
    return accuracy


def _digits() -> tuple[Array, Array, Array]:
    """Images, labels, and the indices of those held out."""
    import numpy as np  # noqa: PLC0415

    from aiaas_async.data.digits import load_digits  # noqa: PLC0415

    images, labels = load_digits()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(images))
    return images, labels, order[:_HELD_OUT]


def _store(client: Client, images: Array, labels: Array, held: Array) -> None:
    import numpy as np  # noqa: PLC0415

    kept = np.setdiff1d(np.arange(len(images)), held)
    client.put_dataset(
        "digits",
        {
            "image": {"dtype": "float32", "shape": [8, 8, 1]},
            "label": {"dtype": "int64", "shape": []},
        },
    )
    columns = {"image": images[kept], "label": labels[kept]}
    with transfer_bar("storing digits") as report:
        facts = client.put_items("digits", columns, progress=report)
    placed = ", ".join(f"{n} on {node}" for node, n in facts["per_node"].items())
    _say(2, f"stored {facts['written']} handwritten digits (UCI, 8x8): {placed}")


def _train(client: Client) -> None:
    from aiaas_async.training.digits import digits_graph, digits_plan  # noqa: PLC0415

    started = time.monotonic()
    job = client.train(
        model=_NAME,
        version="1.0",
        dataset="digits",
        graph=digits_graph(),
        plan=digits_plan(),
        alias="champion",
        metadata={
            "description": "A small CNN for handwritten digits.",
            "tags": ["vision", "digits"],
            "resources": {"cpu": 1, "memory": 0.5},
        },
    )
    with step_bar("training a small CNN") as report:
        for event in client.follow(job["job"]):
            if event.kind == "progress" and "step" in event.data:
                report(event.data["step"], event.data["steps"], f"loss {event.data['loss']:.4f}")
    result = client.wait(job["job"])["result"]
    _say(
        3,
        f"trained {result['epochs']} epochs in {time.monotonic() - started:.1f} s and committed "
        f"{result['model']}:{result['version']}, validation accuracy "
        f"{result['metrics']['val_accuracy']:.3f}",
    )


def _call(client: Client, images: Array, labels: Array, name: str, version: str) -> float:
    answer = client.call({"image": images}, model=name, version=version)
    predicted = answer.outputs["label"]
    shown = " ".join(map(str, predicted[:24].tolist()))
    true = " ".join(map(str, labels[:24].tolist()))
    accuracy = float((predicted == labels).mean())
    _say(5, f"called it with {len(images)} images it has never seen:")
    click.echo(f"   predicted {shown} …\n   true      {true} …")
    click.echo(f"   test accuracy {accuracy:.4f}")
    return accuracy


async def _rate(url: str, images: Array, name: str, version: str) -> float:
    """Calls a second, single images, from this one process."""
    from aiaas_async.client import AsyncClient  # noqa: PLC0415

    async with AsyncClient(url) as client:
        numbers: list[Any] = list(range(_CALLS))

        async def caller() -> None:
            while numbers:
                image = images[numbers.pop() % len(images)]
                await client.call({"image": image}, model=name, version=version)

        await client.call({"image": images[0]}, model=name, version=version)
        started = time.monotonic()
        await asyncio.gather(*(caller() for _ in range(_CONNECTIONS)))
        return _CALLS / (time.monotonic() - started)


def _say(number: int, text: str) -> None:
    click.echo(f"{number}. {text}")


def _wait(url: str) -> None:
    click.echo(f"the server stays up at {url} (AIAAS_URL={url}); Ctrl-C ends it")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        click.echo("stopping")
