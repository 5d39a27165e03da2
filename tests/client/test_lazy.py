"""Importing the package costs nothing until one of its names is used."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import aiaas_async

ROOT = Path(__file__).parents[2]


@pytest.mark.real
@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import aiaas_async", ["aiohttp", "numpy", "msgspec", "asyncio"]),
        ("from aiaas_async import AiaasError", ["aiohttp", "numpy", "asyncio"]),
        ("from aiaas_async.client import UnreachableError", ["aiohttp", "numpy"]),
    ],
)
def test_what_is_not_used_is_not_loaded(statement: str, absent: list[str]) -> None:
    check = f"import sys; {statement}; print([n for n in {absent} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["aiaas_async", "aiaas_async.client"])
def test_every_public_name_can_be_had_and_listed(package: str) -> None:
    module = import_module(package)
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        _ = module.Cleint


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == aiaas_async.__version__
