"""What all commands share: --url and --json, a connected client, errors as one line."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import click

from aiaas_async.errors import AiaasError, CapacityError, DeadlineError, UnplaceableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiaas_async.client import Client

P = ParamSpec("P")

REFUSED, TRY_AGAIN = 1, 75  # 75: EX_TEMPFAIL of sysexits.h


@contextmanager
def one_line_errors(as_json: bool = False) -> Iterator[None]:
    """An error of ours as one line on stderr, or as JSON, and the status it deserves."""
    try:
        yield
    except AiaasError as error:
        click.echo(json.dumps(_problem(error)) if as_json else f"error: {_told(error)}", err=True)
        sys.exit(TRY_AGAIN if _may_pass(error) else REFUSED)


def _may_pass(error: AiaasError) -> bool:
    """Whether the same command may succeed later."""
    return isinstance(error, CapacityError | DeadlineError) and not isinstance(
        error, UnplaceableError
    )


def _told(error: AiaasError) -> str:
    """With the id that finds it in the server's log, where it is the server's fault."""
    from aiaas_async.http.status import status_of  # noqa: PLC0415 - for an error only

    if error.request_id is None or status_of(error) < HTTPStatus.INTERNAL_SERVER_ERROR:
        return error.message
    return f"{error.message} (request {error.request_id})"


def _problem(error: AiaasError) -> dict[str, Any]:
    """An error for programs, in the words of the HTTP interface."""
    known = {
        "request_id": error.request_id,
        "details": error.details or None,
        "retry_after": error.retry_after,
    }
    told = {"code": error.code, "title": error.title, "detail": error.message}
    return told | {name: value for name, value in known.items() if value is not None}


def connected(command: Callable[Concatenate[Client, P], None]) -> Callable[..., None]:
    """Give `command` a client for --url, which is its first argument."""

    @click.option("--url", metavar="URL", help="Server; default $AIAAS_URL or port 8080 here.")
    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        from aiaas_async.client import Client  # noqa: PLC0415 - aiohttp, once it is needed

        url = kwargs.pop("url")
        as_json = kwargs.get("as_json") is True
        with one_line_errors(as_json), Client(url if isinstance(url, str) else None) as client:
            command(client, *args, **kwargs)

    return run


def json_option(command: Callable[P, None]) -> Callable[P, None]:
    """--json: the answer as JSON, for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
