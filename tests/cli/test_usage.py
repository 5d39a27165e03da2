"""What a command line cannot mean is a usage error: refused before any server is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from aiaas_async.cli.arguments import apart, model_of
from aiaas_async.cli.main import main
from aiaas_async.cli.models import _bound
from aiaas_async.discovery.query import Query
from aiaas_async.errors import InvalidNameError
from tests.cli.files import npy

NOBODY = "http://127.0.0.1:9"  # discard: nothing listens there


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("alias m a --rollback --delete", "--rollback and --delete exclude each other"),
        ("alias m a 1.1 --rollback", "VERSION and --rollback exclude each other"),
        ("alias m a 1.1 --delete", "VERSION and --delete exclude each other"),
        ("alias m a --rollback --canary 1 --weight 0.1", "--canary needs a VERSION"),
        ("alias m a 1.0 --weight 0.1", "--weight needs --canary"),
        ("alias m a 1.0 --canary 1.1", "--canary needs --weight"),
        ("alias m", "Missing argument 'ALIAS'"),
        ("register m 1.0 -o y", "Missing option '--input', or 'inputs' in --metadata"),
        ("register m 1.0 -i x", "Missing option '--output', or 'outputs' in --metadata"),
        ("alias m:a 1.0 2.0", "one too many"),
        ("nodes n --join --remove", "--join and --remove exclude each other"),
        ("nodes --remove", "--remove needs a NODE_ID"),
        ("datasets d --delete --compact", "--delete and --compact exclude each other"),
        ("datasets d --delete --rows 0:1", "--delete and --rows exclude each other"),
        ("datasets d --key k --rows 0:1", "--key and --rows exclude each other"),
        ("datasets d --key k --compact", "--compact and --key exclude each other"),
        ("datasets --key k", "--key needs the NAME of a data set"),
        ("deploy m --replicas 2 --split tensor", "--replicas and --split exclude each other"),
        ("deploy m --replicas 2 --distributed", "--replicas and --distributed exclude each other"),
        ("deploy m --nodes 2", "--nodes needs --distributed or --split"),
        ("deployments --delete", "--delete needs a DEPLOYMENT_ID"),
        ("jobs --cancel", "--cancel needs a JOB_ID"),
        ("jobs --follow", "--follow needs a JOB_ID"),
        ("jobs j --follow --cancel", "--follow and --cancel exclude each other"),
        ("jobs j --cancel --resume", "--cancel and --resume exclude each other"),
        ("jobs --resume", "--resume needs a JOB_ID"),
        ("jobs j --follow --detach", "--detach needs --resume"),
        ("models --delete", "--delete needs a NAME"),
        ("models m --yes", "--yes needs --delete"),
        ("models m --delete", "to delete all of m, give --yes"),
        ("models m --release", "--release needs a VERSION"),
        ("models m 1 --release --delete", "--release and --delete exclude each other"),
        ("models m:1.0 1.1", "one too many"),
        ("load m:1.0 1.1", "one too many"),
        ("train m --dataset d", "Missing argument 'VERSION'"),
        ("train m 1.0 --dataset d --gate a>1", "--gate needs an --alias"),
        ("push m 1.0", "Missing argument 'PATH'"),
        ("push m:1.0", "Missing argument 'PATH'"),
        ("push m 1.0 /nonexistent", "does not exist"),
    ],
)
def test_flags_that_contradict_or_say_nothing_are_refused(line: str, said: str) -> None:
    result = CliRunner().invoke(main, [*line.split(), "--url", NOBODY])
    assert said in result.output
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("call m: x=1", "'m:' has no version"),
        ("batch m: d", "'m:' has no version"),
        ("deploy m:", "'m:' has no version"),
        ("load :1.0", "':1.0' has no name"),
        ("call m x=1 x=2", "input x is given twice"),
    ],
)
def test_what_names_nothing_is_refused_in_one_line(line: str, said: str) -> None:
    result = CliRunner().invoke(main, [*line.split(), "--url", NOBODY])
    assert result.output.startswith("error: ")
    assert said in result.output
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("alias", "said"),
    [("latest", "is computed"), ("1.0", "is the version itself"), ("A B", "is not allowed")],
)
def test_the_name_of_an_alias_is_checked_before_anything_is_pushed(
    tmp_path: Path, alias: str, said: str
) -> None:
    line = ["push", "m", "1.0", str(tmp_path), "--alias", alias, "--url", NOBODY]
    result = CliRunner().invoke(main, line)
    assert said in result.output
    assert result.exit_code == 1


def test_a_name_and_a_version_may_be_one_word() -> None:
    assert apart("m", "1.0", "path") == ("m", "1.0", "path")
    assert apart("m:1.0", "path", None) == ("m", "1.0", "path")
    assert apart("m:a:b", None) == ("m", "a:b")  # a version may hold a colon, a name may not
    assert model_of("m") == ("m", None)
    assert model_of("m:1.0") == ("m", "1.0")
    for wrong in ("m:", ":1"):
        with pytest.raises(InvalidNameError):
            model_of(wrong)


@pytest.mark.parametrize("compare", [">=", "<=", "==", "!=", ">", "<"])
def test_a_metric_is_bounded_by_whatever_a_query_may_say(compare: str) -> None:
    for given in (f"acc{compare}0.9", f"acc={compare}0.9", f"acc {compare} 0.9"):
        assert _bound(given) == ("acc", f"{compare}0.9")
        assert (
            str(Query.parse({"metrics": dict([_bound(given)])}).metrics["acc"]) == f"{compare}0.9"
        )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.npz", b"PK\x03\x04\xff", "of an .npz take one array"),
        ("x.png", b"\x89PNG\xff", "a .npy file (numpy.save)"),
        ("x.txt", b"hello", "neither JSON nor a .npy array"),
        ("x.npy", b"\x93NUMPY", "neither JSON nor a .npy array"),
        ("x.npy", npy("'<f4'", "(99999999999, 2)"), "announces more than fits into memory"),
        ("x.npy", npy("'<f4'", f"({10**30},)"), "nor a .npy array: Python int too large"),
        ("x.npy", npy("'<f4'", "(2,)", end="("), "nor a .npy array: ('EOF in multi-line"),
        ("x.npy", npy("()", "(2,)"), "nor a .npy array: tuple index out of range"),
        ("x.json", b"[" * 100_000, "nor a .npy array: it is nested too deeply"),
    ],
)
def test_a_file_that_is_no_input_says_what_is_accepted(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    line = ["call", "m", f"x=@{tmp_path / name}", "--url", NOBODY]
    result = CliRunner().invoke(main, line)
    assert said in result.output
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("call m x=DEEP", "input x is not JSON: it is nested too deeply"),
        ("call m x=NESTED", "input 'x' has lists within lists more than 9 deep"),
        ("push m 1.0 . --metadata DEEP", "--metadata is not JSON: it is nested too deeply"),
        ("push m 1.0 . --metadata @FILE", "--metadata is not JSON: it is nested too deeply"),
        ("train m 1.0 --dataset d --plan DEEP", "--plan is not JSON: it is nested too deeply"),
    ],
)
def test_json_that_is_nested_too_deeply_says_so(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    filled = line.replace("FILE", str(tmp_path / "deep.json")).replace("DEEP", "[" * 100_000)
    filled = filled.replace("NESTED", "[" * 900 + "]" * 900)
    result = CliRunner().invoke(main, [*filled.split(), "--url", NOBODY])
    assert result.output.startswith("error: ")
    assert said in result.output
    assert result.exit_code == 1


def test_a_text_without_quotes_is_told_how_to_have_them() -> None:
    result = CliRunner().invoke(main, ["call", "m", "x=hello you", "--url", NOBODY])
    assert "a text goes in quotes: 'x=\"hello you\"'" in result.output
    result = CliRunner().invoke(main, ["call", "m", "x=[1,", "--url", NOBODY])
    assert "quotes" not in result.output


def test_standard_input_that_is_no_json_says_so() -> None:
    result = CliRunner().invoke(main, ["call", "m", "x=@-", "--url", NOBODY], input="hello")
    assert "standard input is neither JSON" in result.output


def test_an_error_in_json_goes_to_stderr() -> None:
    result = CliRunner().invoke(main, ["call", "m:", "x=1", "--json", "--url", NOBODY])
    assert json.loads(result.stderr)["code"] == "invalid_name"
    assert result.stdout == ""
    assert result.exit_code == 1
