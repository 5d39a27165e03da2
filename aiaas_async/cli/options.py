"""What all commands share: --url and --json, a connected client, errors as one line."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Concatenate, ParamSpec

import click

from aiaas_async.errors import AiaasError, CapacityError, DeadlineError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiaas_async.client import Client

P = ParamSpec("P")

REFUSED, TRY_AGAIN = 1, 75  # 75: EX_TEMPFAIL of sysexits.h


@contextmanager
def one_line_errors() -> Iterator[None]:
    """An error of ours as one line on stderr, and the status it deserves."""
    try:
        yield
    except AiaasError as error:
        click.echo(f"error: {error.message}", err=True)
        again = isinstance(error, CapacityError | DeadlineError)
        sys.exit(TRY_AGAIN if again else REFUSED)


def connected(command: Callable[Concatenate[Client, P], None]) -> Callable[..., None]:
    """Give `command` a client for --url, which is its first argument."""

    @click.option("--url", metavar="URL", help="Server; default $AIAAS_URL or port 8080 here.")
    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        from aiaas_async.client import Client  # noqa: PLC0415 - aiohttp, once it is needed

        url = kwargs.pop("url")
        with one_line_errors(), Client(url if isinstance(url, str) else None) as client:
            command(client, *args, **kwargs)

    return run


def json_option(command: Callable[P, None]) -> Callable[P, None]:
    """--json: the answer as JSON, for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
