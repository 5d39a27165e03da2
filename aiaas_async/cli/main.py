"""`aiaas`: the commands by name; each module is imported when its command runs."""

from __future__ import annotations

import importlib
from typing import Any, Final

import click

from aiaas_async.cli.streams import fill_closed, give_up_output, is_of_output

# Command → module and its one line of help, so that `aiaas --help` imports no command.
COMMANDS: Final = {
    "serve": ("aiaas_async.cli.serve", "Run the server."),
    "demo": ("aiaas_async.cli.demo", "Show the whole story on real data in under a minute."),
    "register": ("aiaas_async.cli.registering", "Register a version's metadata."),
    "push": ("aiaas_async.cli.registering", "Register, upload and commit a file or folder."),
    "discover": ("aiaas_async.cli.models", "Find versions by what they can do."),
    "call": ("aiaas_async.cli.calls", "Call a version."),
    "models": ("aiaas_async.cli.models", "List models, or show one."),
    "alias": ("aiaas_async.cli.aliases", "Point an alias at a version; show or end one."),
    "load": ("aiaas_async.cli.calls", "Load a version onto its node."),
    "unload": ("aiaas_async.cli.calls", "Unload a version everywhere."),
    "datasets": ("aiaas_async.cli.datasets", "List data sets, or show one."),
    "ingest": ("aiaas_async.cli.datasets", "Upload the arrays of an .npz file as a data set."),
    "deploy": ("aiaas_async.cli.deployments", "Place a version: replicated, or split over nodes."),
    "deployments": ("aiaas_async.cli.deployments", "List deployments; show or end one."),
    "batch": ("aiaas_async.cli.training", "Run a version over a whole data set."),
    "train": ("aiaas_async.cli.training", "Train a version on a data set."),
    "jobs": ("aiaas_async.cli.training", "List jobs; show, follow, cancel or resume one."),
    "nodes": ("aiaas_async.cli.nodes", "List nodes and what they hold."),
    "ring": ("aiaas_async.cli.nodes", "Explain where a key goes."),
}


class _LazyGroup(click.Group):
    """A group whose commands are imported when they run."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        fill_closed()
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if not is_of_output(error):
                raise
            give_up_output(error)

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(f"{error.message}{_near(args[0])}", ctx) from None


def _near(given: str) -> str:
    import difflib  # noqa: PLC0415 - for a typo only

    close = difflib.get_close_matches(given, COMMANDS, 1)
    return f" Did you mean '{close[0]}'?" if close else ""


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aiaas-async")
def main() -> None:
    """AI models as a service: register, find, call and train models in one process.

    Commands other than serve and demo take --url (default: $AIAAS_URL, else
    http://127.0.0.1:8080) and --json.
    """
