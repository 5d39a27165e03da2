"""How far it is: a bar on a terminal, a line now and then where somebody reads it later."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from aiaas_async.cli.output import size

Report = Callable[[int, int], None]
Clock = Callable[[], float]

LINE_EVERY_S: Final = 5.0


@contextmanager
def transfer_bar(title: str) -> Iterator[Report]:
    """For bytes; the report takes (bytes done, bytes in all)."""
    with _shown(title, time.monotonic) as show:
        yield lambda done, total: show(done, total, f"{size(done)} of {size(total)}")


@contextmanager
def step_bar(
    title: str, clock: Clock = time.monotonic
) -> Iterator[Callable[[int, int, str], None]]:
    """For steps; the report takes (steps done, steps in all, a remark)."""
    with _shown(title, clock) as show:
        yield lambda done, total, remark: show(done, total, f"{done}/{total} {remark}".rstrip())


@contextmanager
def _shown(title: str, clock: Clock) -> Iterator[Callable[[int, int, str], None]]:
    """Takes (done, in all, how to say it); until then nothing is known, and nothing said."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(title, clock).show
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[standing]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None, standing="")
        yield lambda done, total, standing: progress.update(
            task, completed=done, total=total, standing=standing
        )


class _Lines:
    """At most one line in five seconds; what is over sooner says its result only."""

    def __init__(self, title: str, clock: Clock) -> None:
        self._title, self._clock = title, clock
        self._told_at = clock()

    def show(self, done: int, total: int, standing: str) -> None:
        del done, total
        now = self._clock()
        if now - self._told_at >= LINE_EVERY_S:
            self._told_at = now
            click.echo(f"{self._title}: {standing}", err=True)
