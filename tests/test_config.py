"""Settings: where each comes from, and what is said about one that cannot be."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from aiaas_async.config import FIELDS, TABLES, Settings, example, load_settings
from aiaas_async.errors import InvalidError

EXAMPLE = Path(__file__).parents[1] / "config.example.toml"


def test_the_example_is_what_the_settings_say() -> None:
    assert EXAMPLE.read_text() == example()


def test_the_example_loads_to_the_defaults() -> None:
    assert load_settings(EXAMPLE) == Settings()


def test_the_example_lists_every_setting_with_one_line() -> None:
    lines = example().splitlines()
    for name in FIELDS.keys() - TABLES.keys():
        (at,) = [n for n, line in enumerate(lines) if line.startswith(f"{name} = ")]
        assert re.fullmatch(r"# [^a-z].*\.", lines[at - 1]), lines[at - 1]
    assert any(line.startswith("# [runtimes.") for line in lines)


def test_the_commented_tables_of_the_example_are_right_as_they_stand(tmp_path: Path) -> None:
    shown = [line[2:] for line in example().splitlines() if re.match(r"# (\[|\w+ = )", line)]
    found = load_settings(written(tmp_path, "\n".join(shown)))
    assert found.runtimes.keys() == {"my_runtime"}
    assert found.tenants == {"research": 0.5, "shop": 4.0}


def test_flags_go_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, "port = 1\nnodes = 1\ntimeout_ms = 1\n")
    environment = {"AIAAS_PORT": "2", "AIAAS_NODES": "2", "OTHER_PORT": "9"}
    found = load_settings(file, environment, {"port": 3, "nodes": None})
    assert (found.port, found.nodes, found.timeout_ms) == (3, 2, 1)
    assert found.mailbox_items == Settings().mailbox_items


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("PORT", "9000", 9000),
        ("LOAD_FACTOR", "2", 2.0),
        ("ALLOW_REMOTE", "true", True),
        ("ALLOW_REMOTE", "0", False),
        ("ALLOWED_HOSTS", "a, b,", ("a", "b")),
        ("DATA_DIR", "/x y", "/x y"),
        ("HOST", "localhost", "localhost"),
    ],
)
def test_variables_are_read_as_the_setting_s_type(variable: str, text: str, expected: Any) -> None:
    found = load_settings(None, {f"AIAAS_{variable}": text})
    assert getattr(found, variable.lower()) == expected


def test_variables_of_the_clients_are_no_settings() -> None:
    assert load_settings(None, {"AIAAS_URL": "x", "AIAAS_TIMEOUT": "1"}) == Settings()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prot = 1", ["prot", "did you mean port?"]),
        ("something = 1", ["'something'", "config.example.toml"]),
        (
            "port = '1'",
            ["config.toml: setting port: must be a whole number from 0 to 65535, got '1'"],
        ),
        ("port = 70000", ["setting port", "65535", "70000"]),
        ("port = -1", ["setting port", "from 0 to"]),
        ("port = 1.5", ["setting port"]),
        ("port = true", ["setting port"]),
        ("load_factor = 1.0", ["setting load_factor", "1.05"]),
        ("load_factor = nan", ["setting load_factor"]),
        ("allowed_hosts = 'x'", ["setting allowed_hosts", "array"]),
        ("host = '0.0.0.0'", ["0.0.0.0", "allow_remote = true (--allow-remote)", "password"]),
        ("log_level = 'loud'", ["debug, info, warning or error", "'loud'"]),
        ("runtimes = 5", ["setting runtimes"]),
        ("[tenants]\na = 0", ["setting tenants.a must be a number of at least 0.01, got 0"]),
        ("[tenants]\n'a b' = 1", ["tenant", "a b"]),
        ("[runtimes.x]\ntarget = 5", ["setting runtimes", "target"]),
        ("[runtimes.x]\nother = 'a'", ["setting runtimes", "other"]),
        ("[runtimes.'../x']\ntarget = 'a:B'", ["runtime", "../x"]),
        ("port =", ["is not TOML"]),
        ("port = 1\nport = 2", ["is not TOML"]),
        ("worker_memory_mb = 10", ["worker_memory_mb", "128 at least, got 10"]),
        ("nodes = 2\nworker_threads = 200", ["2 nodes with 200 BLAS threads", "slower"]),
    ],
)
def test_a_file_that_cannot_be_is_refused_by_name(
    tmp_path: Path, text: str, told: list[str]
) -> None:
    with pytest.raises(InvalidError) as caught:
        load_settings(written(tmp_path, text))
    for part in told:
        assert part in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        (
            {"AIAAS_PROT": "1"},
            ["'AIAAS_PROT' is no setting", "did you mean AIAAS_PORT?"],
        ),
        ({"AIAAS_UR": "x"}, ["did you mean AIAAS_URL?"]),
        ({"AIAAS_QUZZLE": "x"}, ["config.example.toml lists them"]),
        ({"AIAAS_PORT": "x"}, ["AIAAS_PORT: must be a whole number from 0 to 65535, got 'x'"]),
        ({"AIAAS_LOAD_FACTOR": "x"}, ["AIAAS_LOAD_FACTOR: must be a number from 1.05 to 100"]),
        ({"AIAAS_PORT": ""}, ["AIAAS_PORT"]),
        ({"AIAAS_PORT": "70000"}, ["AIAAS_PORT", "65535"]),
        ({"AIAAS_ALLOW_REMOTE": "maybe"}, ["AIAAS_ALLOW_REMOTE", "maybe"]),
        ({"AIAAS_RUNTIMES": "x"}, ["configuration file only"]),
        ({"AIAAS_": "x"}, ["environment"]),
    ],
)
def test_a_variable_that_cannot_be_is_refused_by_name(
    environment: dict[str, str], told: list[str]
) -> None:
    with pytest.raises(InvalidError) as caught:
        load_settings(None, environment)
    for part in told:
        assert part in caught.value.message


@pytest.mark.parametrize("flags", [{"port": -1}, {"port": "x"}, {"nodes": 999}, {"host": 5}])
def test_a_flag_that_cannot_be_is_refused_by_name(flags: dict[str, Any]) -> None:
    (name,) = flags
    with pytest.raises(InvalidError, match=f"--{name}: must be "):
        load_settings(None, None, flags)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="cannot be read: No such file"):
        load_settings(tmp_path / "none.toml")
    with pytest.raises(InvalidError, match="cannot be read: Is a directory"):
        load_settings(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidError, match="is not TOML"):
        load_settings(tmp_path / "binary")


def test_remote_addresses_are_allowed_when_meant() -> None:
    assert load_settings(None, None, {"host": "0.0.0.0", "allow_remote": True}).host == "0.0.0.0"
    for host in ("127.0.0.1", "localhost", "::1"):
        assert load_settings(None, None, {"host": host}).host == host


def test_no_nodes_given_means_one_for_each_core() -> None:
    assert Settings().node_count == len(os.sched_getaffinity(0))
    assert Settings(nodes=3).node_count == 3


def written(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text)
    return file
