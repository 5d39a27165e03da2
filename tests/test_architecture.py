"""The design, as far as a program can read it: imports run downwards, and each dependency has
its place."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import aiaas_async

ROOT: Final = Path(aiaas_async.__file__).parent

# From the bottom up; nothing imports its own level, or one above.
LEVELS: Final = (
    ("errors",),
    ("names", "requestid"),
    ("misfit",),
    ("messages", "schedule"),
    ("config", "ring", "actors"),
    ("jobs",),
    ("nn", "formats"),
    ("wire", "registry", "data", "runtimes"),
    ("discovery", "training", "convert"),
    ("compute",),
    ("node",),
    ("deploy",),
    ("service",),
    ("http",),
    ("client", "testing"),
    ("__init__",),
    ("cli",),
    ("__main__",),
)
LEVEL_OF: Final = {unit: level for level, units in enumerate(LEVELS) for unit in units}

NUMBERS: Final = {"nn", "runtimes", "wire", "compute", "training", "data", "formats", "convert"}
MACHINERY: Final = {"actors", "jobs", "registry", "compute", "node", "deploy", "service", "http"}
# Who may import what of other people; what is not named here, all may.
PLACES: Final[dict[str, set[str]]] = {
    "numpy": NUMBERS | {"service", "client", "cli"},
    "msgpack": {"wire"},
    "simdjson": {"wire"},
    "aiohttp": {"http", "client"},
    "asyncio": MACHINERY | {"client", "cli"},
    "prometheus_client": set(),
    "click": {"cli"},
    "rich": {"cli"},
    "uvloop": {"cli", "client"},
    "onnxruntime": {"runtimes"},
    "onnx": {"convert"},
    "torch": set(),
    "opentelemetry": {"service"},
    "socketserver": set(),
    "urllib": {"client", "http"},
    "requests": set(),
    **{name: set() for name in ("pickle", "marshal", "shelve", "dill", "joblib", "msgpack_numpy")},
}

SOURCES: Final = sorted(ROOT.rglob("*.py"))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def unit_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


@functools.cache
def imported(path: Path) -> tuple[tuple[str, str], ...]:
    """(module, name) of every import of a file, those inside functions included."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: relative imports hide where they lead"
            yield from ((node.module or "", alias.name) for alias in node.names)


def ours(path: Path) -> Iterator[str]:
    """The units of ours that a file imports."""
    for module, name in imported(path):
        parts = module.split(".")
        if parts[0] != "aiaas_async" or (module, name) == ("aiaas_async", "__version__"):
            continue
        yield parts[1] if len(parts) > 1 else (name if name in LEVEL_OF else "__init__")


def sources_of(unit: str) -> Iterator[Path]:
    return (path for path in SOURCES if unit_of(path) == unit)


def test_every_module_has_a_level() -> None:
    assert {unit_of(path) for path in SOURCES} == set(LEVEL_OF)


@pytest.mark.parametrize("unit", LEVEL_OF)
def test_imports_run_downwards(unit: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {used}"
        for path in sources_of(unit)
        for used in ours(path)
        if used != unit and LEVEL_OF[used] >= LEVEL_OF[unit]
    ]
    assert not wrong


@pytest.mark.parametrize("package", PLACES)
def test_a_dependency_is_used_only_in_its_place(package: str) -> None:
    users = {
        unit_of(path)
        for path in SOURCES
        for module, _ in imported(path)
        if module.partition(".")[0] == package
    }
    assert users <= PLACES[package]


# What must not be called: it runs or builds what a stranger wrote, or overflows in silence.
FORBIDDEN: Final = {"eval", "exec", "compile", "__import__", "np.prod", "numpy.prod", "os.system"}


@pytest.mark.parametrize("unit", LEVEL_OF)
def test_nothing_runs_what_a_stranger_wrote(unit: str) -> None:
    for path in sources_of(unit):
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Call):
                continue
            assert ast.unparse(node.func) not in FORBIDDEN, path
            for keyword in node.keywords:
                told = (keyword.arg, ast.unparse(keyword.value))
                assert told not in {("allow_pickle", "True"), ("shell", "True")}, path


@pytest.mark.parametrize("unit", LEVEL_OF)
def test_a_module_says_what_it_is_and_stays_readable(unit: str) -> None:
    for path in sources_of(unit):
        tree = tree_of(path)
        assert ast.get_docstring(tree), path
        assert len(path.read_text().splitlines()) <= 400, path
        assert path.stem not in {"utils", "util", "helpers", "common", "manager", "misc"}, path
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, (path, node.name)
