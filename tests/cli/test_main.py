"""The group of commands: all there, imported late, and helpful with typos."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from aiaas_async.cli.main import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_where_the_table_says_and_explains_itself(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert f"main {name}" in result.output


def test_help_lists_every_command_with_its_line() -> None:
    output = CliRunner().invoke(main, ["--help"]).output
    for name, (_, text) in COMMANDS.items():
        assert name in output
        assert text.split()[0] in output


def test_help_imports_neither_numpy_nor_aiohttp() -> None:
    code = (
        "import sys\n"
        "from aiaas_async.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print(sorted({'numpy', 'aiohttp', 'rich'} & sys.modules.keys()))\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.splitlines()[-1] == "[]"


def test_a_typo_is_answered_with_the_nearest_command() -> None:
    result = CliRunner().invoke(main, ["cal"])
    assert result.exit_code == 2
    assert "Did you mean 'call'?" in result.output


def test_without_a_server_a_command_says_so_in_one_line() -> None:
    result = CliRunner().invoke(main, ["models", "--url", "http://127.0.0.1:9"])
    assert result.exit_code == 1
    assert "aiaas serve" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "/nonexistent.toml"], "cannot be read"),
        (["--host", "0.0.0.0"], "allow_remote"),
        (["--nodes", "-1"], "nodes"),
        (["--log-level", "loud"], "log_level"),
    ],
)
def test_a_bad_setting_ends_serve_with_status_2_and_one_line(
    arguments: list[str], said: str
) -> None:
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code == 2
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_main_is_a_click_group() -> None:
    assert isinstance(main, click.Group)
